//! The machines, their network and what runs on them.

use evermind_lock::table::Pieces;
use evermind_raft::node::LogKept;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use evermind_checker::Spell;
use evermind_checker::health::is_answered;
use evermind_checker::history::{Recorder, Told};
use tokio::time::Instant;

use crate::clients::{Clients, Stores};
use crate::clock::HostClock;
use crate::dice::Dice;
use crate::disk::HostDisk;
use crate::fast::Fast;
use crate::host::Host;
use crate::net::{CLIENTS, HostId, Link, Net};
use crate::node::{Ended, Machine, NODES, Process};
use crate::trace;
use crate::trace::Trace;

/// Real time between two looks at everything.
pub const TICK_US: u64 = 1_000;

/// How old a lease table may be that a power cut leaves.
const SAVE_TABLES_EVERY_US: u64 = 3_000_000;

/// A node's machine and what runs on it.
pub struct Place {
    /// The machine.
    pub host: Host,
    /// Its disk.
    pub disk: HostDisk,
    /// Its present process, or its last one.
    pub process: Process,
    /// How many processes there were.
    pub starts: u64,
}

/// Everything.
pub struct World {
    /// The seed's randomness.
    pub dice: Dice,
    /// What happened.
    pub trace: Trace,
    /// The network.
    pub net: Net,
    /// The nodes' machines.
    pub places: BTreeMap<HostId, Place>,
    /// What the clients share.
    pub clients: Clients,
    /// How many sectors and names were not synced when the power went, over all cuts.
    pub unsynced_at_cuts: u64,
    /// How often each machine lost its power.
    power_cuts: BTreeMap<HostId, u64>,
    /// When whose clocks ran fast, for the checker.
    fast: Fast,
    clients_host: Host,
    now_us: u64,
    log_kept: LogKept,
    pieces: Pieces,
    clients_started: u64,
}

/// A link on which nothing is wrong.
pub fn usual_link() -> Link {
    Link {
        cut: false,
        latency_us: (100, 2_000),
        loss_per_mille: 0,
    }
}

impl World {
    /// Three machines that are off, and the clients'.
    pub fn new(dice: &Dice, trace: Trace) -> Self {
        let hosts: Vec<HostId> = std::iter::once(CLIENTS).chain(NODES).collect();
        let net = Net::new(&hosts, &usual_link(), dice.named("net"), trace.clone());
        let setup = dice.named("setup");
        let places = NODES.map(|id| {
            // No two machines have been up for as long.
            let up = Duration::from_millis(setup.between(0, 3_600_000));
            let place = Place {
                host: Host::new(dice.named(&format!("host {id}")), HostClock::up_for(up)),
                disk: HostDisk::new(dice.named(&format!("disk {id}"))),
                process: Process::default(),
                starts: 0,
            };
            (id, place)
        });
        let clients = Clients {
            net: net.clone(),
            recorder: Arc::new(Recorder::default()),
            stores: Arc::new(Stores::default()),
            issued: Arc::default(),
            dice: dice.named("clients"),
            trace: trace.clone(),
            stop: Arc::new(AtomicBool::new(false)),
            working: Arc::new(AtomicU64::new(0)),
            began: Instant::now(),
            think_max: Duration::from_millis(setup.pick(&[5, 30, 200])),
        };
        Self {
            dice: dice.clone(),
            trace,
            net,
            places: places.into_iter().collect(),
            clients,
            unsynced_at_cuts: 0,
            power_cuts: BTreeMap::new(),
            fast: Fast::default(),
            clients_host: Host::new(dice.named("clients' host"), HostClock::default()),
            now_us: 0,
            clients_started: 0,
            // Mostly so little that snapshots are made, and sent, again and again.
            log_kept: LogKept {
                bytes: setup.pick(&[4 << 10, 16 << 10, 64 << 10, 64 << 20]),
                entries: setup.pick(&[0, 5, 50, 10_000]),
            },
            // Mostly so small that the table is often behind with what is over.
            pieces: setup.pick(&[
                Pieces::default(),
                Pieces {
                    of_expire: 1,
                    of_command: 1,
                },
                Pieces {
                    of_expire: 5,
                    of_command: 1,
                },
            ]),
        }
    }

    /// How much an entry ends of what is over.
    pub fn pieces(&self) -> Pieces {
        self.pieces
    }

    /// Real time since the beginning.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Starts so many clients.
    pub fn start_clients(&mut self, count: u64) {
        let mut clients = self.clients.clone();
        self.clients.working.store(count, Ordering::Relaxed);
        self.clients_started = count;
        self.clients_host.start(async move {
            clients.began = Instant::now();
            clients.start(count);
        });
    }

    /// Lets the clients finish.
    pub fn stop_clients(&self) {
        self.clients.stop.store(true, Ordering::Relaxed);
    }

    /// Whether a client that asked after this moment was granted a lock.
    pub fn has_granted_since(&self, moment_us: u64) -> bool {
        self.clients.recorder.with(|history| {
            history.records.iter().any(|record| {
                record.invoked.0 / 1_000 > moment_us && matches!(record.told, Told::Granted { .. })
            })
        })
    }

    /// How many clients there are.
    pub fn clients_started(&self) -> u64 {
        self.clients_started
    }

    /// Whether every client was answered that asked after this moment.
    pub fn has_served_all_since(&self, moment_us: u64) -> bool {
        self.clients.recorder.with(|history| {
            let records = history.records.iter().rev();
            let since = records.take_while(|record| record.returned.0 / 1_000 > moment_us);
            let served = since
                .filter(|r| r.invoked.0 / 1_000 >= moment_us && is_answered(&r.told))
                .map(|record| record.client);
            served.collect::<BTreeSet<_>>().len() as u64 == self.clients_started
        })
    }

    /// Whether every client has ended.
    pub fn clients_are_done(&self) -> bool {
        self.clients.working.load(Ordering::Relaxed) == 0
    }

    /// Starts a node's process.
    ///
    /// # Panics
    /// If one runs already.
    pub fn start(&mut self, id: HostId) {
        self.net.power_on(id);
        let place = self.places.get_mut(&id).expect("a node");
        place.starts += 1;
        place.process = Process::default();
        let dice = self
            .dice
            .named(&format!("node {id} start {}", place.starts));
        let machine = Machine {
            id,
            net: self.net.clone(),
            disk: place.disk.clone(),
            clock: place.host.clock().clone(),
            dice,
            log_kept: self.log_kept,
            pieces: self.pieces,
        };
        trace!(self.trace, "node {id} starts");
        place.host.start(machine.run(place.process.clone()));
    }

    /// SIGKILL.
    pub fn kill(&mut self, id: HostId) {
        trace!(self.trace, "node {id} is killed");
        let place = self.places.get_mut(&id).expect("a node");
        place.process.seen().node = None;
        place.host.kill();
        place.disk.killed();
    }

    /// The plug is pulled.
    pub fn power_off(&mut self, id: HostId) {
        trace!(self.trace, "node {id} loses its power");
        self.net.power_off(id);
        let place = self.places.get_mut(&id).expect("a node");
        place.process.seen().node = None;
        place.host.kill();
        place.host.clock().rebooted();
        let unsynced = place.disk.power_cut();
        self.unsynced_at_cuts += unsynced;
        *self.power_cuts.entry(id).or_default() += 1;
        trace!(self.trace, "{unsynced} sectors and names were not synced");
    }

    /// How often a machine lost its power.
    pub fn power_cuts(&self, id: HostId) -> u64 {
        self.power_cuts.get(&id).copied().unwrap_or(0)
    }

    /// A node's clocks run this much faster from now on.
    pub fn set_rate_ppm(&mut self, id: HostId, rate_ppm: i64) {
        let place = self.places.get_mut(&id).expect("a node");
        place.host.set_rate_ppm(rate_ppm);
        self.fast.set(id, rate_ppm, self.now_us);
    }

    /// When a node's clocks ran fast, so far.
    pub fn fast_spells(&self) -> Vec<Spell> {
        self.fast.spells(self.now_us)
    }

    /// How a node's process ended by itself, if it has.
    pub fn ended(&self, id: HostId) -> Option<Ended> {
        self.places[&id].process.seen().ended.clone()
    }

    /// The node that leads, as far as any of them says.
    pub fn leader(&self) -> Option<HostId> {
        let leads = |place: &Place| {
            let seen = place.process.seen();
            let status = seen.node.as_ref()?.status();
            (status.leader == Some(status.id)).then_some((status.term, status.id))
        };
        let newest = self.places.values().filter_map(leads).max();
        newest.map(|(_, id)| id)
    }

    /// The newest entry that any node says it has applied.
    pub fn applied(&self) -> u64 {
        let applied = |place: &Place| {
            let seen = place.process.seen();
            seen.node.as_ref().map(|node| node.status().applied_index)
        };
        self.places
            .values()
            .filter_map(applied)
            .max()
            .unwrap_or_default()
    }

    /// Time passes.
    pub fn tick(&mut self) {
        self.now_us += TICK_US;
        self.trace.at(self.now_us);
        self.net.tick(self.now_us);
        for place in self.places.values_mut() {
            place.host.tick(TICK_US);
        }
        self.clients_host.tick(TICK_US);
        if self.now_us.is_multiple_of(SAVE_TABLES_EVERY_US) {
            for place in self.places.values() {
                place.disk.save_table();
            }
        }
    }
}
