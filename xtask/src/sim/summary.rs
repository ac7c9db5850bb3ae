//! What many seeds showed together.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::Line;

/// As many seeds as reach everything that there is to reach.
const SEEDS_THAT_REACH_ALL: u64 = 200;

/// What is proved only if it happens: actions, outcomes and events of the log, and kinds of faults.
const MUST_REACH: &[&str] = &[
    "action Abandon",
    "action Acquire",
    "action AddApiKey",
    "action CreateApiKey",
    "action CreateLicence",
    "action DeleteApiKey",
    "action DetachNode",
    "action Expire",
    "action Extend",
    "action Found",
    "action Reattach",
    "action RecordMember",
    "action Release",
    "action Resume",
    "action RevokeLicence",
    "outcome Granted",
    "outcome Queued",
    "outcome Extended",
    "outcome Released",
    "outcome Stale",
    "outcome refused GrantEnded",
    "outcome refused IdempotencyMismatch",
    "outcome refused LicenceInactive",
    "outcome refused LockHeld",
    "outcome refused LockNotFound",
    "outcome refused NotOwner",
    "outcome refused QuotaExceeded",
    "outcome refused Unauthorized",
    "wait Detached",
    "wait Granted",
    "wait refused CutOff",
    "wait refused LockHeld",
    "bridge",
    "clients",
    "date",
    "delay",
    "disk-error",
    "disk-full",
    "flapping",
    "freeze",
    "isolate",
    "kill",
    "loss",
    "one-way",
    "power-cut",
    "power-cut-in-call",
    "rate",
    "rot",
    "stall",
    "stop",
    "suspend",
    "transfer",
];

/// Sums over all seeds.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    pub(crate) seeds: u64,
    pub(crate) took_s: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) simulated_s: u64,
    #[serde(skip)]
    simulated_us: u64,
    pub(crate) operations: u64,
    pub(crate) ambiguous: u64,
    pub(crate) resolved: u64,
    pub(crate) grants: u64,
    pub(crate) entries: u64,
    pub(crate) windows: u64,
    pub(crate) violations: u64,
    pub(crate) undecided: u64,
    pub(crate) starts: u64,
    pub(crate) stopped_by_their_disk: u64,
    pub(crate) damaged_logs_refused: u64,
    pub(crate) unsynced_at_power_cuts: u64,
    pub(crate) slowest_heal_ms: u64,
    pub(crate) injected: BTreeMap<String, u64>,
    pub(crate) effects: BTreeMap<String, u64>,
    /// Which actions, outcomes and events the logs have.
    pub(crate) reached: BTreeMap<String, u64>,
    pub(crate) healthy_s: u64,
    #[serde(skip)]
    healthy_us: u64,
    /// Seeds that showed something, and what found it.
    pub(crate) found: BTreeMap<u64, Vec<String>>,
}

impl Summary {
    pub(crate) fn add(&mut self, line: &Line) {
        let verdict = &line.outcome.verdict;
        self.first = if self.seeds == 0 {
            line.seed
        } else {
            self.first.min(line.seed)
        };
        self.last = self.last.max(line.seed);
        self.seeds += 1;
        self.simulated_us += line.simulated_us;
        self.simulated_s = self.simulated_us / 1_000_000;
        self.operations += verdict.operations;
        self.ambiguous += verdict.ambiguous;
        self.resolved += verdict.resolved;
        self.grants += line.outcome.grants;
        self.entries += line.outcome.entries;
        self.windows += verdict.windows;
        self.violations += verdict.violations.len() as u64;
        self.undecided += verdict.undecided.len() as u64;
        self.healthy_us += line.healthy_us;
        self.healthy_s = self.healthy_us / 1_000_000;
        self.starts += line.starts;
        self.stopped_by_their_disk += line.stopped;
        self.damaged_logs_refused += line.refused;
        self.unsynced_at_power_cuts += line.unsynced_at_cuts;
        self.slowest_heal_ms = self.slowest_heal_ms.max(line.healed_us / 1_000);
        for (sum, more) in [
            (&mut self.injected, &line.injected),
            (&mut self.effects, &line.effects),
            (&mut self.reached, &verdict.reached),
        ] {
            for (name, count) in more {
                *sum.entry(name.clone()).or_default() += count;
            }
        }
        if !line.clean {
            self.found.insert(line.seed, line.caught_by.clone());
        }
    }

    /// What a run of this many seeds must reach, and did not.
    pub(crate) fn unreached(&self) -> Vec<&'static str> {
        if self.seeds < SEEDS_THAT_REACH_ALL {
            return Vec::new();
        }
        let is_missed =
            |name: &&str| !self.reached.contains_key(*name) && !self.injected.contains_key(*name);
        MUST_REACH.iter().copied().filter(is_missed).collect()
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let rows = [
            (
                "seeds",
                format!("{} ({} to {})", self.seeds, self.first, self.last),
            ),
            (
                "took",
                format!(
                    "{} s for {} s of simulated time",
                    self.took_s, self.simulated_s
                ),
            ),
            (
                "operations",
                format!("{}, of them {} grants", self.operations, self.grants),
            ),
            (
                "without an answer",
                format!(
                    "{}, {} resolved from the log",
                    self.ambiguous, self.resolved
                ),
            ),
            ("log entries", self.entries.to_string()),
            ("windows searched", self.windows.to_string()),
            (
                "processes started",
                format!(
                    "{}, {} stopped by their disk",
                    self.starts, self.stopped_by_their_disk
                ),
            ),
            (
                "lost to power cuts",
                format!(
                    "{} sectors and names that were not synced, at most",
                    self.unsynced_at_power_cuts
                ),
            ),
            (
                "damaged logs refused",
                self.damaged_logs_refused.to_string(),
            ),
            ("slowest heal", format!("{} ms", self.slowest_heal_ms)),
            ("faults", sums(&self.injected)),
            ("on the network", sums(&self.effects)),
            (
                "nothing wrong",
                format!(
                    "for {} s, in which everything had to be in time",
                    self.healthy_s
                ),
            ),
            ("reached", sums(&self.reached)),
            ("violations", self.violations.to_string()),
            ("undecided", self.undecided.to_string()),
        ];
        for (name, value) in rows {
            let _ = writeln!(text, "{name:22}{value}");
        }
        for (seed, caught_by) in &self.found {
            let _ = writeln!(text, "seed {seed}: {}", caught_by.join(", "));
        }
        for name in self.unreached() {
            let _ = writeln!(text, "NOT REACHED by any seed: {name}");
        }
        let _ = write!(
            text,
            "sim: {} seeds, {} found something",
            self.seeds,
            self.found.len()
        );
        text
    }
}

fn sums(counts: &BTreeMap<String, u64>) -> String {
    let parts: Vec<String> = counts
        .iter()
        .map(|(name, n)| format!("{name} {n}"))
        .collect();
    parts.join(", ")
}
