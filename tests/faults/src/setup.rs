//! What a row needs under and around its nodes.

use std::ffi::OsString;
use std::path::Path;

/// The libraries that Debian has at a place of its own for each machine.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib",
];

/// What the nodes' clocks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clocks {
    /// The machine's time.
    True,
    /// A wall clock that follows a file for each node (libfaketime); the monotonic one is true.
    Wall,
    /// Every clock of a node runs at a rate of its own, [`RATES`], from the start of its process to
    /// its end: where libfaketime changes a rate under way, clocks jump a little.
    Rates,
}

/// By node: how fast its clocks run under [`Clocks::Rates`].
pub(crate) const RATES: [(u64, &str); 3] = [(1, "1.1"), (2, "0.9"), (3, "1.0")];

/// What must come of a row, besides what must of every row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Operations may fail, and be told so.
    NoViolation,
    /// No operation fails that followed the contract.
    NoFailure,
    /// The same, and nothing is wrong at all: none is asked twice.
    NoRetry,
    /// The negative control: something acknowledged is lost, and that is found.
    Loss,
}

/// What a row asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) clients: u64,
    /// How long faults are injected.
    pub(crate) seconds: u64,
    /// The same in the bounded run.
    pub(crate) ci_seconds: Option<u64>,
    /// Each node in a network namespace of its own, joined by a network of ours.
    pub(crate) network: bool,
    /// Each node's data on a file system of its own, of this size.
    pub(crate) image_mib: Option<u64>,
    pub(crate) log_bytes_kept: Option<u64>,
    pub(crate) clocks: Clocks,
    /// `fsync` and its kin do nothing (libeatmydata).
    pub(crate) fsync_off: bool,
    pub(crate) expect: Expect,
    /// By how much of a thousand the clocks of the nodes may run fast or slow.
    pub(crate) rate_per_mille: u64,
    /// Panics that are part of the row, by what their message contains.
    pub(crate) panics: &'static [&'static str],
}

impl Setup {
    /// Three nodes on loopback.
    pub(crate) const USUAL: Self = Self {
        clients: 16,
        seconds: 20,
        ci_seconds: None,
        network: false,
        image_mib: None,
        log_bytes_kept: None,
        clocks: Clocks::True,
        fsync_off: false,
        expect: Expect::NoViolation,
        rate_per_mille: 0,
        panics: &[],
    };

    /// Variables for each node's process; `{node}` stands for its number.
    pub(crate) fn variables(&self, dir: &Path) -> Vec<(String, OsString)> {
        let mut variables = Vec::new();
        let mut set = |name: &str, value: OsString| variables.push((name.to_owned(), value));
        if self.fsync_off {
            set("LD_PRELOAD", library("libeatmydata.so", "eatmydata"));
        }
        if self.clocks != Clocks::True {
            set(
                "LD_PRELOAD",
                library("faketime/libfaketimeMT.so.1", "libfaketime"),
            );
            set(
                "FAKETIME_TIMESTAMP_FILE",
                dir.join("clock-{node}").into_os_string(),
            );
        }
        if self.clocks == Clocks::Wall {
            // The file is read at every look at a clock: a jump is a jump at once.
            set("FAKETIME_NO_CACHE", "1".into());
            set("FAKETIME_DONT_FAKE_MONOTONIC", "1".into());
            set("DONT_FAKE_MONOTONIC", "1".into());
        }
        variables
    }
}

fn library(name: &str, package: &str) -> OsString {
    let found = LIBRARIES
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists());
    found
        .unwrap_or_else(|| panic!("no {name}; to install it: apt-get install {package}"))
        .into_os_string()
}
