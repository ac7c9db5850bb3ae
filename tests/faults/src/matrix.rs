//! The rows of the fault matrix, in its numbering.

use crate::rows::kill;
use crate::scene::Scene;
use crate::setup::Setup;

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

/// What runs.
pub(crate) const ROWS: &[Row] = &[
    Row {
        number: 1,
        fault: "none",
        setup: Setup {
            no_failures: true,
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
