//! The network: TCP as its users see it.
//!
//! What a link that is cut swallows is sent again when it heals, in order, as TCP does: a cut shows
//! as silence, not as a gap. What is lost comes late. A process that dies has its connections
//! closed by its kernel; a machine that loses its power says nothing, and answers with a reset when
//! it is back.

mod connection;
mod listener;
mod stream;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use self::connection::{Connection, Segment};
use self::listener::Backlog;
pub use self::listener::SimListener;
pub use self::stream::SimStream;
use crate::dice::Dice;
use crate::trace;
use crate::trace::Trace;

/// A machine: a node by its id, the clients' as [`CLIENTS`].
pub type HostId = u64;

/// Where the clients are.
pub const CLIENTS: HostId = 0;

/// How long TCP waits before it sends again, at least.
const RESEND_US: u64 = 200_000;

/// A SYN without an answer is sent again after this.
const SYN_AGAIN: Duration = Duration::from_secs(1);

/// One direction between two machines.
#[derive(Debug, Clone)]
pub struct Link {
    /// Nothing passes.
    pub cut: bool,
    /// From sending to arrival, in microseconds, at least and at most.
    pub latency_us: (u64, u64),
    /// How many of a thousand segments are lost once.
    pub loss_per_mille: u64,
}

/// What the network did to those who use it.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Effects {
    /// Segments that arrived.
    pub delivered: u64,
    /// Segments that a cut link swallowed.
    pub swallowed: u64,
    /// Segments that were lost once.
    pub lost: u64,
    /// Connections that were reset.
    pub resets: u64,
}

struct Inner {
    now_us: u64,
    dice: Dice,
    trace: Trace,
    links: BTreeMap<(HostId, HostId), Link>,
    listeners: BTreeMap<(HostId, u16), Backlog>,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    /// Machines without power.
    off: Vec<HostId>,
    effects: Effects,
    /// Of the swallowed ones, those whose link was cut: the others found a machine that is off.
    swallowed_by_cuts: u64,
}

/// The network. Clones are the same one.
#[derive(Clone)]
pub struct Net(Arc<Mutex<Inner>>);

impl Net {
    /// A network between these machines, all links alike.
    pub fn new(hosts: &[HostId], usual: &Link, dice: Dice, trace: Trace) -> Self {
        let mut links = BTreeMap::new();
        for from in hosts {
            for to in hosts.iter().filter(|to| *to != from) {
                links.insert((*from, *to), usual.clone());
            }
        }
        Self(Arc::new(Mutex::new(Inner {
            now_us: 0,
            dice,
            trace,
            links,
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            next: 0,
            off: Vec::new(),
            effects: Effects::default(),
            swallowed_by_cuts: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a link.
    ///
    /// # Panics
    /// If there is none.
    pub fn change(&self, from: HostId, to: HostId, change: impl FnOnce(&mut Link)) {
        let mut inner = self.lock();
        let was_cut = inner.links[&(from, to)].cut;
        let link = inner.links.get_mut(&(from, to)).expect("looked up");
        change(link);
        let is_cut = link.cut;
        if was_cut != is_cut {
            inner.cut_or_healed(from, to, is_cut);
        }
    }

    /// How many segments cut links swallowed.
    pub fn swallowed_by_cuts(&self) -> u64 {
        self.lock().swallowed_by_cuts
    }

    /// What was done so far.
    pub fn effects(&self) -> Effects {
        self.lock().effects
    }

    /// Bytes move.
    pub fn tick(&self, now_us: u64) {
        self.lock().tick(now_us);
    }

    /// The power of a machine goes: its connections are silent from here on. Before its runtime is
    /// dropped.
    pub fn power_off(&self, host: HostId) {
        let mut inner = self.lock();
        inner.off.push(host);
        for connection in inner.connections.values_mut() {
            connection.vanish(host);
        }
    }

    /// The machine is back: it answers what it does not know with a reset.
    pub fn power_on(&self, host: HostId) {
        self.lock().off.retain(|off| *off != host);
    }

    /// Listens.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn listen(&self, host: HostId, port: u16) -> io::Result<SimListener> {
        SimListener::new(self.clone(), host, port)
    }

    /// Connects, for as long as the caller waits.
    ///
    /// # Errors
    /// If nobody listens there.
    pub async fn connect(&self, from: HostId, to: HostId, port: u16) -> io::Result<SimStream> {
        loop {
            let trip = self.lock().round_trip(from, to);
            let Some(trip_us) = trip else {
                tokio::time::sleep(SYN_AGAIN).await;
                continue;
            };
            tokio::time::sleep(Duration::from_micros(trip_us)).await;
            return self.lock().open(self, from, to, port);
        }
    }
}

impl Inner {
    fn is_off(&self, host: HostId) -> bool {
        self.off.contains(&host)
    }

    fn latency_us(&self, from: HostId, to: HostId) -> u64 {
        let (low, high) = self.links[&(from, to)].latency_us;
        self.dice.between(low, high)
    }

    /// SYN there and its answer back; `None` if one of them does not arrive.
    fn round_trip(&mut self, from: HostId, to: HostId) -> Option<u64> {
        let cut = self.links[&(from, to)].cut || self.links[&(to, from)].cut;
        if cut || self.is_off(to) {
            self.effects.swallowed += 1;
            self.swallowed_by_cuts += u64::from(cut);
            return None;
        }
        Some(self.latency_us(from, to) + self.latency_us(to, from))
    }

    fn open(&mut self, net: &Net, from: HostId, to: HostId, port: u16) -> io::Result<SimStream> {
        let id = self.next;
        let Some(backlog) = self.listeners.get_mut(&(to, port)) else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        self.next += 1;
        self.connections.insert(id, Connection::new(from, to));
        backlog.push(SimStream::new(net.clone(), id, 1), from);
        trace!(self.trace, "{from} -> {to}:{port} open {id}");
        Ok(SimStream::new(net.clone(), id, 0))
    }

    /// When what is sent now from one end arrives; `None` while the link is cut.
    fn due(&mut self, from: HostId, to: HostId) -> Option<u64> {
        let link = &self.links[&(from, to)];
        if link.cut {
            self.effects.swallowed += 1;
            self.swallowed_by_cuts += 1;
            return None;
        }
        let loss = link.loss_per_mille;
        let mut due = self.now_us + self.latency_us(from, to);
        let mut wait_us = RESEND_US;
        // Twice as long each time, as TCP does; ten losses in a row are a cut of minutes.
        while wait_us < RESEND_US << 10 && loss > 0 && self.dice.chance(loss) {
            self.effects.lost += 1;
            due += wait_us;
            wait_us *= 2;
        }
        Some(due)
    }

    fn send(&mut self, id: u64, side: usize, what: Segment) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let (from, to) = connection.direction(side);
        let due = self.due(from, to);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.push(side, due, what);
        }
    }

    fn cut_or_healed(&mut self, from: HostId, to: HostId, cut: bool) {
        let now_us = self.now_us;
        let mut swallowed = 0;
        for connection in self.connections.values_mut() {
            for side in connection.sides(from, to) {
                if cut {
                    swallowed += connection.hold(side);
                } else {
                    let wait_us = self.dice.between(1_000, 2 * RESEND_US);
                    connection.resume(side, now_us + wait_us);
                }
            }
        }
        self.effects.swallowed += swallowed;
        self.swallowed_by_cuts += swallowed;
    }

    fn tick(&mut self, now_us: u64) {
        self.now_us = now_us;
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in ids {
            for side in [0, 1] {
                self.deliver(id, side);
            }
        }
        self.connections
            .retain(|_, connection| !connection.is_over());
    }

    /// What is due on one direction of a connection arrives.
    fn deliver(&mut self, id: u64, side: usize) {
        let now_us = self.now_us;
        while let Some(connection) = self.connections.get_mut(&id) {
            if !connection.is_due(side, now_us) {
                break;
            }
            let (from, to) = connection.direction(side);
            if connection.has_vanished(1 - side) {
                if self.off.contains(&to) {
                    // Nobody is there: TCP goes on trying.
                    connection.delay(side, now_us + RESEND_US);
                    break;
                }
                // Nothing is known of this connection.
                connection.drop_first(side);
                connection.reset(side);
                self.effects.resets += 1;
                trace!(self.trace, "{to} -> {from} reset {id}");
                continue;
            }
            // The acknowledgement comes back at once, or when its way is free again.
            let acknowledged = !self.links[&(to, from)].cut;
            let arrived = connection.arrive(side, acknowledged);
            self.effects.delivered += 1;
            trace!(self.trace, "{from} -> {to} {id} {arrived}");
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            let (from, to) = connection.direction(side);
            if !self.links[&(to, from)].cut {
                connection.acknowledge(side);
            }
        }
    }
}
