//! What goes wrong, and when: decided by the seed alone.

mod apply;
mod fault;
mod observed;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use self::fault::{Fault, Kind};
use self::observed::{Observed, Watch};
use crate::dice::Dice;
use crate::net::HostId;
use crate::node::{Ended, NODES};
use crate::trace;
use crate::world::World;

/// How many of a thousand seeds have no fault.
const PEACE_PER_MILLE: u64 = 120;

/// Faults at a time.
const AT_ONCE_MAX: usize = 3;

/// Brings trouble, for a while.
pub struct Chaos {
    dice: Dice,
    /// What this seed may bring: few kinds together find more than all of them always.
    kinds: Vec<Kind>,
    under_way: Vec<(u64, Fault)>,
    next_us: u64,
    pause_us: (u64, u64),
    /// Machines that are to lose their power, and by when.
    cuts: BTreeMap<HostId, u64>,
    /// When a stopped node is started again.
    starts: BTreeMap<HostId, u64>,
    /// Nodes whose log was damaged, and what the damaged file was.
    rotten: BTreeMap<HostId, (PathBuf, Vec<u8>)>,
    /// How many damaged logs were refused.
    refused: u64,
    /// How often each kind was brought.
    injected: BTreeMap<Kind, u64>,
    /// Of which of them something was seen.
    observed: Observed,
    /// How many processes ended by themselves because of their disk.
    stopped: u64,
}

impl Chaos {
    /// What a seed brings.
    pub fn new(dice: Dice) -> Self {
        // In some seeds nothing goes wrong at all, and everything must be in time.
        let peace = dice.chance(PEACE_PER_MILLE);
        let mut kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|_| dice.chance(350)).collect();
        if kinds.is_empty() {
            kinds.push(dice.pick(&Kind::ALL));
        }
        if peace {
            kinds.clear();
        }
        let pause_us = dice.pick(&[
            (100_000, 1_500_000),
            (500_000, 4_000_000),
            (3_000_000, 6_000_000),
        ]);
        Self {
            dice,
            kinds,
            under_way: Vec::new(),
            next_us: 1_500_000,
            pause_us,
            cuts: BTreeMap::new(),
            starts: BTreeMap::new(),
            rotten: BTreeMap::new(),
            refused: 0,
            injected: BTreeMap::new(),
            observed: Observed::default(),
            stopped: 0,
        }
    }

    /// How often each kind was brought.
    pub fn injected(&self) -> &BTreeMap<Kind, u64> {
        &self.injected
    }

    /// How often a fault of each kind was seen to do something.
    pub fn observed(&self) -> &BTreeMap<Kind, u64> {
        self.observed.counts()
    }

    /// How many processes ended by themselves because of their disk.
    pub fn stopped(&self) -> u64 {
        self.stopped
    }

    /// How many damaged logs were refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Time has passed: what is due begins or ends.
    ///
    /// # Errors
    /// If a node has ended in a way that no fault explains.
    pub fn tick(&mut self, world: &mut World) -> Result<(), String> {
        let now_us = world.now_us();
        self.observed.look(self.refused, world);
        let (over, under_way) = std::mem::take(&mut self.under_way)
            .into_iter()
            .partition(|(until_us, _)| *until_us <= now_us);
        self.under_way = under_way;
        let over: Vec<(u64, Fault)> = over;
        for (_, fault) in over {
            self.end(world, &fault);
        }
        for (_, fault) in &self.under_way {
            if let Fault::Flapping(from, to, period_us) = fault {
                let cut = (now_us / period_us).is_multiple_of(2);
                world.net.change(*from, *to, |link| link.cut = cut);
            }
        }
        self.look_after_processes(world)?;
        if now_us < self.next_us {
            return Ok(());
        }
        self.next_us = now_us + self.dice.between(self.pause_us.0, self.pause_us.1);
        if self.under_way.len() < AT_ONCE_MAX && !self.kinds.is_empty() {
            let kind = self.dice.pick(&self.kinds);
            self.bring(world, kind);
        }
        Ok(())
    }

    fn bring(&mut self, world: &mut World, kind: Kind) {
        let Some((fault, lasts_us)) = Fault::draw(kind, &self.dice, world) else {
            return;
        };
        let taken = self
            .under_way
            .iter()
            .any(|(_, other)| other.excludes(&fault));
        if taken || !fault.finds_something(world) {
            return;
        }
        trace!(world.trace, "fault: {fault:?} for {lasts_us} us");
        *self.injected.entry(kind).or_default() += 1;
        let until_us = world.now_us() + lasts_us;
        let watch = Watch::new(kind, &fault, until_us, self.refused, world);
        self.begin(world, &fault);
        self.observed.add(watch);
        self.under_way.push((until_us, fault));
    }

    /// Whether nothing is wrong: no fault is there or about to show, and every process runs.
    pub fn is_quiet(&self, world: &World) -> bool {
        self.under_way.is_empty()
            && self.cuts.is_empty()
            && self.starts.is_empty()
            && self.rotten.is_empty()
            && world.places.values().all(|place| {
                let seen = place.process.seen();
                let runs = place.host.is_running() && seen.ended.is_none() && seen.node.is_some();
                runs && !place.disk.now().is_about_to_fail()
            })
    }

    /// Whether something is wrong with a process, or with the network between it and its clients.
    pub fn harms_clients(&self, world: &World) -> bool {
        let faults = self.under_way.iter();
        let cut = faults.map(|(_, fault)| fault).any(Fault::harms_clients);
        let is_down = |place: &crate::world::Place| {
            let seen = place.process.seen();
            !place.host.is_running() || seen.ended.is_some() || seen.node.is_none()
        };
        cut || world.places.values().any(is_down)
    }

    /// Whether something is wrong with one of two nodes, or with what is between them.
    pub fn harms_pair(&self, world: &World, a: HostId, b: HostId) -> bool {
        let by_fault = self
            .under_way
            .iter()
            .any(|(_, fault)| fault.harms_pair(a, b));
        let is_well = |id: HostId| {
            let place = &world.places[&id];
            let seen = place.process.seen();
            let runs = place.host.is_running() && !place.host.is_paused();
            runs && seen.ended.is_none()
                && seen.node.is_some()
                && !self.cuts.contains_key(&id)
                && !place.disk.now().is_about_to_fail()
        };
        by_fault || !is_well(a) || !is_well(b)
    }

    /// Everything is mended at once.
    pub fn heal(&mut self, world: &mut World) {
        self.observed.look(self.refused, world);
        self.observed.healed();
        for (_, fault) in std::mem::take(&mut self.under_way) {
            self.end(world, &fault);
        }
        for id in NODES {
            if !world.places[&id].host.is_running() {
                self.starts.insert(id, world.now_us());
            }
        }
    }

    /// Machines whose disk lost its power in a call, and those whose time has come.
    fn cut_power(&mut self, world: &mut World) {
        for id in NODES {
            if !world.places[&id].host.is_running() {
                self.cuts.remove(&id);
                continue;
            }
            let now_us = world.now_us();
            let planned = self.cuts.get(&id).copied();
            let in_call = world.places[&id].disk.now().is_off();
            if in_call || planned.is_some_and(|by_us| by_us <= now_us) {
                self.cuts.remove(&id);
                world.power_off(id);
                let up = now_us + self.dice.between(10_000, 3_000_000);
                self.starts.insert(id, up);
            }
        }
    }

    /// A process that ended by itself is started again, as a supervisor does.
    ///
    /// # Errors
    /// If no fault explains its end.
    pub fn look_after_processes(&mut self, world: &mut World) -> Result<(), String> {
        // Before a process is replaced, and its disk's count with it.
        self.observed.look(self.refused, world);
        self.cut_power(world);
        let now_us = world.now_us();
        for id in NODES {
            if !world.places[&id].host.is_running() || world.places[&id].host.is_paused() {
                continue;
            }
            let started = world.places[&id].process.seen().node.is_some();
            if started && self.rotten.contains_key(&id) {
                return Err(format!("node {id} started: with a damaged log"));
            }
            let Some(ended) = world.ended(id) else {
                continue;
            };
            trace!(world.trace, "node {id} ended: {ended:?}");
            let (Ended::NotStarted(why) | Ended::Stopped(why)) = &ended;
            if let Some((path, bytes)) = self.rotten.remove(&id) {
                if !why.contains("damaged") {
                    return Err(format!(
                        "node {id} ended, and did not tell of its log: {ended:?}"
                    ));
                }
                // Its operator brings the file back.
                self.refused += 1;
                world.kill(id);
                world.places[&id].disk.now().set_contents(&path, bytes);
                self.starts
                    .insert(id, now_us + self.dice.between(10_000, 1_000_000));
                continue;
            }
            if !why.contains("simulated:") {
                return Err(format!(
                    "node {id} ended, and its disk is no reason: {ended:?}"
                ));
            }
            self.stopped += 1;
            world.kill(id);
            self.starts
                .insert(id, now_us + self.dice.between(10_000, 3_000_000));
        }
        let due: Vec<HostId> = self
            .starts
            .iter()
            .filter(|(_, at_us)| **at_us <= now_us)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.starts.remove(&id);
            if !world.places[&id].host.is_running() {
                world.start(id);
            }
        }
        Ok(())
    }
}
