//! The rows of the fault matrix, in its numbering.

use crate::rows::{abuse, clock, damage, disk, kill, machine, network, pause, replay};
use crate::scene::Scene;
use crate::setup::{Clocks, Expect, Setup};

/// One row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) number: u32,
    pub(crate) fault: &'static str,
    pub(crate) setup: Setup,
    pub(crate) inject: fn(&Scene<'_>),
}

/// A row whose feature is not there yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) number: u32,
    pub(crate) fault: &'static str,
    pub(crate) waits_for: &'static str,
}

const USUAL: Setup = Setup::USUAL;
/// sled may panic over a damaged file; the node sets the checkpoint aside at its next start.
const SLED: &[&str] = &["/sled-"];

/// What runs.
pub(crate) const ROWS: &[Row] = &[
    Row {
        number: 1,
        fault: "none",
        setup: Setup {
            expect: Expect::NoRetry,
            ..USUAL
        },
        inject: kill::nothing,
    },
    Row {
        number: 2,
        fault: "kill -9 of the leader",
        setup: Setup {
            ci_seconds: Some(12),
            ..USUAL
        },
        inject: kill::leader,
    },
    Row {
        number: 3,
        fault: "kill -9 of a follower",
        setup: USUAL,
        inject: kill::follower,
    },
    Row {
        number: 4,
        fault: "kill -9 of all",
        setup: USUAL,
        inject: kill::all,
    },
    Row {
        number: 5,
        fault: "20 times kill -9 in 60 s",
        setup: Setup {
            seconds: 60,
            ..USUAL
        },
        inject: kill::twenty,
    },
    Row {
        number: 6,
        fault: "kill -9 during snapshot install",
        setup: Setup {
            log_bytes_kept: Some(1 << 20),
            ..USUAL
        },
        inject: disk::install,
    },
    Row {
        number: 7,
        fault: "SIGSTOP of the leader past leases",
        setup: Setup {
            ci_seconds: Some(12),
            ..USUAL
        },
        inject: pause::leader,
    },
    Row {
        number: 8,
        fault: "SIGSTOP of the holding client",
        setup: USUAL,
        inject: pause::holder,
    },
    Row {
        number: 9,
        fault: "SIGSTOP of each node in turn",
        setup: USUAL,
        inject: pause::each,
    },
    Row {
        number: 10,
        fault: "the leader isolated",
        setup: Setup {
            network: true,
            ..USUAL
        },
        inject: network::isolate,
    },
    Row {
        number: 11,
        fault: "majority ring",
        setup: Setup {
            network: true,
            ..USUAL
        },
        inject: network::ring,
    },
    Row {
        number: 12,
        fault: "bridge",
        setup: Setup {
            network: true,
            ..USUAL
        },
        inject: network::bridge,
    },
    Row {
        number: 13,
        fault: "one-way: nothing reaches the leader",
        setup: Setup {
            network: true,
            ci_seconds: Some(10),
            ..USUAL
        },
        inject: network::one_way_in,
    },
    Row {
        number: 14,
        fault: "one-way: nothing leaves the leader",
        setup: Setup {
            network: true,
            ..USUAL
        },
        inject: network::one_way_out,
    },
    Row {
        number: 15,
        fault: "flapping link",
        setup: Setup {
            network: true,
            ..USUAL
        },
        inject: network::flapping,
    },
    Row {
        number: 16,
        fault: "5, 20, 50% loss",
        setup: Setup {
            network: true,
            ..USUAL
        },
        inject: network::loss,
    },
    Row {
        number: 17,
        fault: "delay above the election timeout",
        setup: Setup {
            network: true,
            ..USUAL
        },
        inject: network::delay,
    },
    Row {
        number: 18,
        fault: "resets and half-open connections",
        setup: Setup {
            network: true,
            ..USUAL
        },
        inject: network::resets,
    },
    Row {
        number: 19,
        fault: "acquire replayed after its release",
        setup: Setup {
            ci_seconds: Some(5),
            ..USUAL
        },
        inject: replay::acquire_after_release,
    },
    Row {
        number: 20,
        fault: "release delayed past a regrant",
        setup: Setup {
            ci_seconds: Some(5),
            ..USUAL
        },
        inject: replay::delayed_release,
    },
    Row {
        number: 21,
        fault: "answers dropped and asked again",
        setup: Setup {
            ci_seconds: Some(5),
            ..USUAL
        },
        inject: replay::lost_replies,
    },
    Row {
        number: 22,
        fault: "wall clock +-1 h and strobing",
        setup: Setup {
            clocks: Clocks::Wall,
            ci_seconds: Some(8),
            ..USUAL
        },
        inject: clock::wall,
    },
    Row {
        number: 23,
        fault: "monotonic rate +-10% on the leader",
        setup: Setup {
            clocks: Clocks::Rates,
            rate_per_mille: 100,
            seconds: 30,
            ..USUAL
        },
        inject: clock::rate,
    },
    Row {
        number: 24,
        fault: "power cut of one",
        setup: Setup {
            image_mib: Some(256),
            ..USUAL
        },
        inject: disk::power_of_one,
    },
    Row {
        number: 25,
        fault: "power cut of all",
        setup: Setup {
            image_mib: Some(256),
            ci_seconds: Some(12),
            ..USUAL
        },
        inject: disk::power_of_all,
    },
    Row {
        number: 26,
        fault: "fsync off, power cut of all",
        setup: Setup {
            image_mib: Some(256),
            fsync_off: true,
            expect: Expect::Loss,
            seconds: 8,
            ci_seconds: Some(5),
            ..USUAL
        },
        inject: disk::power_of_all_unsynced,
    },
    Row {
        number: 27,
        fault: "torn write",
        setup: USUAL,
        inject: disk::torn,
    },
    Row {
        number: 28,
        fault: "EIO at the nth fdatasync",
        setup: Setup {
            ci_seconds: Some(10),
            ..USUAL
        },
        inject: disk::sync_error,
    },
    Row {
        number: 29,
        fault: "disk full",
        setup: Setup {
            image_mib: Some(256),
            ci_seconds: Some(8),
            ..USUAL
        },
        inject: disk::full,
    },
    Row {
        number: 30,
        fault: "fdatasync 0.5-5 s on the leader",
        setup: USUAL,
        inject: disk::slow_sync,
    },
    Row {
        number: 31,
        fault: "bit flips in log, snapshot, checkpoint",
        setup: Setup {
            log_bytes_kept: Some(256 << 10),
            panics: SLED,
            ..USUAL
        },
        inject: damage::flips,
    },
    Row {
        number: 32,
        fault: "log truncated",
        setup: USUAL,
        inject: damage::truncated,
    },
    Row {
        number: 33,
        fault: "a node wiped",
        setup: USUAL,
        inject: damage::wiped,
    },
    Row {
        number: 34,
        fault: "checkpoint deleted or garbage",
        setup: Setup {
            panics: SLED,
            ..USUAL
        },
        inject: damage::checkpoint,
    },
    Row {
        number: 36,
        fault: "leader transfer by SIGTERM",
        setup: Setup {
            expect: Expect::NoFailure,
            ..USUAL
        },
        inject: machine::transfer,
    },
    Row {
        number: 37,
        fault: "rolling restart",
        setup: Setup {
            expect: Expect::NoFailure,
            ..USUAL
        },
        inject: machine::rolling,
    },
    Row {
        number: 38,
        fault: "one node at 5% of a core",
        setup: USUAL,
        inject: machine::starved,
    },
    Row {
        number: 39,
        fault: "file-descriptor limit",
        setup: USUAL,
        inject: machine::descriptors,
    },
    Row {
        number: 40,
        fault: "5,000 slow connections, malformed requests",
        setup: USUAL,
        inject: abuse::abuse,
    },
];

/// What cannot run yet.
pub(crate) const WAITING: &[Waiting] = &[
    Waiting {
        number: 35,
        fault: "grow 3 -> 5 -> 3 under load",
        waits_for: "membership change",
    },
    Waiting {
        number: 37,
        fault: "upgrade N-1 <-> N",
        waits_for: "a released version",
    },
    Waiting {
        number: 40,
        fault: "forged peers",
        waits_for: "TLS between peers",
    },
];
