//! What came of one run of one row.

use serde::Serialize;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Result {
    Passed,
    Failed,
    /// The negative control: the checks found what they must find.
    FailedAsItMust,
}

/// One run of one row.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    pub(crate) row: u32,
    pub(crate) fault: &'static str,
    /// 1, until runs of one row are added up.
    pub(crate) runs: u64,
    pub(crate) injected: u64,
    /// How many of these were seen to do something: those count.
    pub(crate) observed: u64,
    pub(crate) effects: Vec<(&'static str, u64)>,
    pub(crate) notes: Vec<String>,
    pub(crate) operations: u64,
    pub(crate) ambiguous: u64,
    pub(crate) resolved: u64,
    pub(crate) took_effect: u64,
    pub(crate) without_effect: u64,
    /// Windows of the general search.
    pub(crate) windows: u64,
    /// Views of running nodes' tables.
    pub(crate) live_views: u64,
    /// Requests that were sent again.
    pub(crate) retries: u64,
    /// How long nothing was wrong, so that everything had to be in time.
    pub(crate) calm_ms: u64,
    pub(crate) violations: usize,
    pub(crate) undecided: usize,
    /// The longest time without a certain answer to anybody.
    pub(crate) longest_gap_ms: u64,
    pub(crate) served_after_ms: u64,
    pub(crate) took_s: u64,
    pub(crate) result: Result,
    /// Why it failed; in the negative control, what was found.
    pub(crate) why: Vec<String>,
    /// Where a failed run's logs, data and history are.
    pub(crate) kept: Vec<String>,
}

impl Outcome {
    /// Adds another run of the same row: what counts adds up, what lasts is the longest, and one
    /// failure is enough.
    pub(crate) fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.injected += other.injected;
        self.observed += other.observed;
        for (what, times) in &other.effects {
            match self.effects.iter_mut().find(|(name, _)| name == what) {
                Some((_, sum)) => *sum += times,
                None => self.effects.push((what, *times)),
            }
        }
        self.notes.clone_from(&other.notes);
        self.operations += other.operations;
        self.ambiguous += other.ambiguous;
        self.resolved += other.resolved;
        self.took_effect += other.took_effect;
        self.without_effect += other.without_effect;
        self.windows += other.windows;
        self.live_views += other.live_views;
        self.retries += other.retries;
        self.calm_ms += other.calm_ms;
        self.violations += other.violations;
        self.undecided += other.undecided;
        self.longest_gap_ms = self.longest_gap_ms.max(other.longest_gap_ms);
        self.served_after_ms = self.served_after_ms.max(other.served_after_ms);
        self.took_s += other.took_s;
        if other.result == Result::Failed {
            self.result = Result::Failed;
        }
        self.why.extend(other.why.iter().cloned());
        self.kept.extend(other.kept.iter().cloned());
    }
}
