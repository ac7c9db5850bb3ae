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
    pub(crate) injected: u64,
    pub(crate) effects: Vec<(&'static str, u64)>,
    pub(crate) notes: Vec<String>,
    pub(crate) operations: u64,
    pub(crate) ambiguous: u64,
    pub(crate) resolved: u64,
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
    pub(crate) kept: Option<String>,
}
