//! The faults there are.

use serde::Serialize;

use crate::dice::Dice;
use crate::host::Pause;
use crate::net::{CLIENTS, HostId};
use crate::node::NODES;
use crate::world::World;

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One node hears nobody and nobody hears it.
    Isolate,
    /// A node hears nobody, but is heard; or the other way round.
    OneWay,
    /// Two nodes cannot reach each other; the third reaches both.
    Bridge,
    /// A node loses its clients, or they lose its answers.
    Clients,
    /// A link that comes and goes.
    Flapping,
    /// Much is lost.
    Loss,
    /// Everything is late: above the election timeout.
    Delay,
    /// SIGKILL of one, of two or of all.
    Kill,
    /// The power of one, two or all goes: what was not synced may be gone.
    PowerCut,
    /// SIGSTOP of one, and its machine's clocks go on.
    Stop,
    /// A machine is frozen, clocks and all.
    Freeze,
    /// A machine sleeps: its clock since boot jumps, and its timers know nothing of that.
    Suspend,
    /// A disk that takes seconds.
    Stall,
    /// A call of the disk fails.
    DiskError,
    /// The disk is full.
    DiskFull,
    /// The power goes in the middle of a call of the disk.
    PowerCutInCall,
    /// A bit of a stopped node's log changes.
    Rot,
    /// A node's clocks run a tenth too fast or too slow.
    Rate,
    /// Somebody sets a date.
    Date,
    /// The leader is asked to hand over.
    Transfer,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Isolate,
        Self::OneWay,
        Self::Bridge,
        Self::Clients,
        Self::Flapping,
        Self::Loss,
        Self::Delay,
        Self::Kill,
        Self::PowerCut,
        Self::Stop,
        Self::Freeze,
        Self::Suspend,
        Self::Stall,
        Self::DiskError,
        Self::DiskFull,
        Self::PowerCutInCall,
        Self::Rot,
        Self::Rate,
        Self::Date,
        Self::Transfer,
    ];
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// These directions are cut.
    Cut(Vec<(HostId, HostId)>),
    /// This direction is cut every other time for so long.
    Flapping(HostId, HostId, u64),
    /// So many of a thousand segments are lost on every link.
    Loss(u64),
    /// Every link takes so much longer, in microseconds.
    Delay(u64),
    /// These are killed.
    Kill(Vec<HostId>),
    /// The power of these goes.
    PowerCut(Vec<HostId>),
    /// This one stands still.
    Pause(HostId, Pause),
    /// Each step of this one's disk takes so many ms more.
    Stall(HostId, u64),
    /// One of the next calls of this one's disk fails.
    DiskError(HostId, u64),
    /// After so many more calls this one's disk is full.
    DiskFull(HostId, u64),
    /// At one of the next calls of this one's disk its power goes.
    PowerCutInCall(HostId, u64),
    /// This one is killed, a bit of its log changes, and it is started again.
    Rot(HostId),
    /// This one's clocks run so much faster, in ppm.
    Rate(HostId, i64),
    /// This one's date is so wrong, in ms.
    Date(HostId, i64),
    /// This one hands over, if it leads.
    Transfer(HostId),
}

fn both_ways(a: HostId, b: HostId) -> [(HostId, HostId); 2] {
    [(a, b), (b, a)]
}

impl Fault {
    /// One of a kind, and for how long; `None` if it cannot be now.
    pub(super) fn draw(kind: Kind, dice: &Dice, world: &World) -> Option<(Self, u64)> {
        // The leader is where it hurts most.
        let leader = world.leader().filter(|_| dice.chance(600));
        let one = leader.unwrap_or_else(|| dice.pick(&NODES));
        let others: Vec<HostId> = NODES.into_iter().filter(|id| *id != one).collect();
        let short_us = dice.between(20_000, 600_000);
        let long_us = dice.between(600_000, 6_000_000);
        let lasts_us = dice.pick(&[short_us, long_us]);
        let fault = match kind {
            Kind::Isolate => Self::Cut(others.iter().flat_map(|b| both_ways(one, *b)).collect()),
            Kind::OneWay => {
                let inwards = dice.chance(500);
                let some = if dice.chance(500) {
                    &others[..]
                } else {
                    &others[..1]
                };
                let direction = |other: &HostId| {
                    if inwards {
                        (*other, one)
                    } else {
                        (one, *other)
                    }
                };
                Self::Cut(some.iter().map(direction).collect())
            }
            Kind::Bridge => Self::Cut(both_ways(others[0], others[1]).into()),
            Kind::Clients => match dice.between(0, 2) {
                0 => Self::Cut(vec![(one, CLIENTS)]),
                1 => Self::Cut(vec![(CLIENTS, one)]),
                _ => Self::Cut(both_ways(one, CLIENTS).into()),
            },
            Kind::Flapping => {
                Self::Flapping(one, dice.pick(&others), dice.between(20_000, 400_000))
            }
            Kind::Loss => Self::Loss(dice.pick(&[50, 200, 500])),
            Kind::Delay => Self::Delay(dice.pick(&[20_000, 150_000, 500_000])),
            Kind::Kill => Self::Kill(some_of(dice, one, &others)),
            Kind::PowerCut => Self::PowerCut(some_of(dice, one, &others)),
            Kind::Stop => Self::Pause(one, Pause::Process),
            Kind::Freeze => Self::Pause(one, Pause::Machine),
            Kind::Suspend => Self::Pause(one, Pause::Suspended),
            Kind::Stall => Self::Stall(one, dice.pick(&[20, 300, 2_000])),
            Kind::DiskError => Self::DiskError(one, dice.between(0, 60)),
            Kind::DiskFull => Self::DiskFull(one, dice.between(0, 60)),
            Kind::PowerCutInCall => Self::PowerCutInCall(one, dice.between(0, 60)),
            Kind::Rot => Self::Rot(one),
            Kind::Rate => Self::Rate(one, dice.pick(&[-100_000, 100_000])),
            Kind::Date => Self::Date(one, dice.pick(&[-3_600_000, 3_600_000, 31_536_000_000])),
            Kind::Transfer => Self::Transfer(world.leader()?),
        };
        Some((fault, lasts_us))
    }

    /// Whether the two would get in each other's way.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            // One clock at a time: that is what the clock claim is about.
            (Self::Rate(..), Self::Rate(..))
            | (Self::Loss(_), Self::Loss(_))
            | (Self::Delay(_), Self::Delay(_))
            | (Self::Cut(_) | Self::Flapping(..), Self::Cut(_) | Self::Flapping(..)) => true,
            _ => match (self.process_of(), other.process_of()) {
                (Some(a), Some(b)) => a.iter().any(|id| b.contains(id)),
                _ => false,
            },
        }
    }

    /// Whether it can harm a connection of a client's, or end a process.
    pub(super) fn harms_clients(&self) -> bool {
        match self {
            Self::Cut(links) => links.iter().any(|(a, b)| [*a, *b].contains(&CLIENTS)),
            Self::Flapping(a, b, _) => [*a, *b].contains(&CLIENTS),
            Self::Loss(_)
            | Self::Delay(_)
            | Self::Kill(_)
            | Self::PowerCut(_)
            | Self::DiskError(..)
            | Self::DiskFull(..)
            | Self::PowerCutInCall(..)
            | Self::Rot(_) => true,
            Self::Pause(..)
            | Self::Stall(..)
            | Self::Rate(..)
            | Self::Date(..)
            | Self::Transfer(_) => false,
        }
    }

    /// Whether it can keep two nodes from hearing each other, or change who leads.
    pub(super) fn harms_pair(&self, a: HostId, b: HostId) -> bool {
        let is_between = |from: HostId, to: HostId| (from, to) == (a, b) || (from, to) == (b, a);
        match self {
            Self::Cut(links) => links.iter().any(|(from, to)| is_between(*from, *to)),
            Self::Flapping(from, to, _) => is_between(*from, *to),
            Self::Loss(_) | Self::Delay(_) | Self::Transfer(_) => true,
            Self::Kill(ids) | Self::PowerCut(ids) => ids.contains(&a) || ids.contains(&b),
            Self::Pause(id, _)
            | Self::Stall(id, _)
            | Self::DiskError(id, _)
            | Self::DiskFull(id, _)
            | Self::PowerCutInCall(id, _)
            | Self::Rot(id)
            | Self::Rate(id, _) => *id == a || *id == b,
            Self::Date(..) => false,
        }
    }

    /// Whether there is a process for it to harm.
    pub(super) fn finds_something(&self, world: &World) -> bool {
        self.process_of().is_none_or(|ids| {
            let is_up = |id: &HostId| world.places[id].host.is_running();
            ids.iter().any(is_up)
        })
    }

    /// Whose process or disk it is about.
    fn process_of(&self) -> Option<Vec<HostId>> {
        match self {
            Self::Kill(ids) | Self::PowerCut(ids) => Some(ids.clone()),
            Self::Rot(id)
            | Self::Pause(id, _)
            | Self::Stall(id, _)
            | Self::DiskError(id, _)
            | Self::DiskFull(id, _)
            | Self::PowerCutInCall(id, _) => Some(vec![*id]),
            _ => None,
        }
    }
}

fn some_of(dice: &Dice, one: HostId, others: &[HostId]) -> Vec<HostId> {
    match dice.between(0, 3) {
        0 => NODES.into(),
        1 => vec![one, dice.pick(others)],
        _ => vec![one],
    }
}
