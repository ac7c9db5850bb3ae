//! Whether a fault that was brought did anything: one that nothing was seen of does not count.

use std::collections::BTreeMap;

use super::{Fault, Kind};
use crate::net::HostId;
use crate::world::World;

/// A clock that is off by this much is seen to be.
const OFF_US: u64 = 1_000;
/// A process that stands still for this long is seen to.
const STILL_US: u64 = 5_000;

/// What shows that a fault took effect.
#[derive(Debug)]
enum Sign {
    /// A cut swallowed more segments than so many.
    Swallowed(u64),
    /// More segments were lost than so many.
    Lost(u64),
    /// A segment arrived after this moment, all of whose kind are late: more than so many.
    Late(u64, u64),
    /// One of these processes is gone: by node, the number of the process.
    Gone(BTreeMap<HostId, u64>),
    /// One of these machines lost its power more often than so.
    Dark(BTreeMap<HostId, u64>),
    /// This node's process stands still since then.
    Still(HostId, u64),
    /// More steps of this one's disk were stalled than so many.
    Stalled(HostId, u64),
    /// More calls of this one's disk failed than so many, in this process.
    Failed(HostId, u64, u64),
    /// More damaged logs were refused than so many.
    Refused(u64),
    /// This one's local time and real time were so far apart, in microseconds.
    Apart(HostId, i64),
    /// This one read a wrong date more often than so.
    Misdated(HostId, u64),
    /// Another than this one leads.
    Another(HostId),
}

/// A fault that was brought, until it shows or is over.
#[derive(Debug)]
pub(super) struct Watch {
    kind: Kind,
    sign: Sign,
    /// When it is over; some are not before they show.
    until_us: Option<u64>,
}

impl Watch {
    /// To be called before the fault begins.
    pub(super) fn new(
        kind: Kind,
        fault: &Fault,
        until_us: u64,
        refused: u64,
        world: &World,
    ) -> Self {
        let process = |id: &HostId| (*id, world.places[id].starts);
        let power = |id: &HostId| (*id, world.power_cuts(*id));
        let now_us = world.now_us();
        let (sign, ends) = match fault {
            Fault::Cut(_) | Fault::Flapping(..) => {
                (Sign::Swallowed(world.net.swallowed_by_cuts()), true)
            }
            Fault::Loss(_) => (Sign::Lost(world.net.effects().lost), true),
            // What was sent before has arrived by then.
            Fault::Delay(us) => (Sign::Late(now_us + us / 2, 0), true),
            Fault::Kill(ids) => {
                let up = ids.iter().filter(|id| world.places[*id].host.is_running());
                (Sign::Gone(up.map(process).collect()), true)
            }
            Fault::PowerCut(ids) => (Sign::Dark(ids.iter().map(power).collect()), false),
            Fault::PowerCutInCall(id, _) => (Sign::Dark([power(id)].into()), false),
            Fault::Pause(id, _) => (Sign::Still(*id, now_us), true),
            Fault::Stall(id, _) => (Sign::Stalled(*id, world.places[id].disk.stalls()), true),
            Fault::DiskError(id, _) | Fault::DiskFull(id, _) => {
                let hit = world.places[id].disk.now().faults_hit();
                (Sign::Failed(*id, hit, world.places[id].starts), false)
            }
            Fault::Rot(_) => (Sign::Refused(refused), false),
            Fault::Rate(id, _) => (Sign::Apart(*id, apart_us(world, *id)), true),
            Fault::Date(id, _) => {
                let read = world.places[id].host.clock().wrong_dates();
                (Sign::Misdated(*id, read), true)
            }
            Fault::Transfer(id) => (Sign::Another(*id), true),
        };
        Self {
            kind,
            sign,
            until_us: ends.then_some(until_us),
        }
    }

    fn shows(&mut self, refused: u64, world: &World) -> bool {
        let now_us = world.now_us();
        let place = |id: &HostId| &world.places[id];
        match &mut self.sign {
            Sign::Swallowed(before) => world.net.swallowed_by_cuts() > *before,
            Sign::Lost(before) => world.net.effects().lost > *before,
            Sign::Late(from_us, before) => {
                let delivered = world.net.effects().delivered;
                if now_us <= *from_us {
                    *before = delivered;
                }
                delivered > *before
            }
            Sign::Gone(processes) => processes
                .iter()
                .any(|(id, process)| place(id).starts != *process || !place(id).host.is_running()),
            Sign::Dark(cuts) => cuts.iter().any(|(id, cuts)| world.power_cuts(*id) > *cuts),
            Sign::Still(id, since_us) => {
                let host = &place(id).host;
                host.is_running() && host.is_paused() && now_us >= *since_us + STILL_US
            }
            Sign::Stalled(id, before) => place(id).disk.stalls() > *before,
            Sign::Failed(id, before, _) => place(id).disk.now().faults_hit() > *before,
            Sign::Refused(before) => refused > *before,
            Sign::Apart(id, before) => {
                let host = &place(id).host;
                host.is_running() && apart_us(world, *id).abs_diff(*before) >= OFF_US
            }
            Sign::Misdated(id, before) => place(id).host.clock().wrong_dates() > *before,
            Sign::Another(id) => world.leader().is_some_and(|leader| leader != *id),
        }
    }

    /// Whether it can show no more.
    fn is_over(&self, world: &World) -> bool {
        let of_the_past = match &self.sign {
            Sign::Failed(id, _, process) => world.places[id].starts != *process,
            _ => false,
        };
        of_the_past
            || self
                .until_us
                .is_some_and(|until_us| until_us <= world.now_us())
    }
}

/// By how much a machine's time is ahead of what passed.
fn apart_us(world: &World, id: HostId) -> i64 {
    let host = &world.places[&id].host;
    host.ahead_us()
}

/// Faults that have not shown yet, and how many of each kind have.
#[derive(Debug, Default)]
pub(super) struct Observed {
    open: Vec<Watch>,
    counts: BTreeMap<Kind, u64>,
}

impl Observed {
    pub(super) fn add(&mut self, watch: Watch) {
        self.open.push(watch);
    }

    /// Time has passed; faults that end now have not ended yet.
    pub(super) fn look(&mut self, refused: u64, world: &World) {
        let counts = &mut self.counts;
        self.open.retain_mut(|watch| {
            if watch.shows(refused, world) {
                *counts.entry(watch.kind).or_default() += 1;
                return false;
            }
            !watch.is_over(world)
        });
    }

    /// Everything is mended: what lasts for a while is over.
    pub(super) fn healed(&mut self) {
        self.open.retain(|watch| watch.until_us.is_none());
    }

    pub(super) fn counts(&self) -> &BTreeMap<Kind, u64> {
        &self.counts
    }
}
