//! Who is told of what was applied.

use evermind_lock::command::OpId;
use evermind_lock::outcome::{Decision, Event};

use crate::types::LogId;

/// One command that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The index of its entry. The decision's own index is an older one for a repeated operation.
    pub log_index: u64,
    /// Which operation it was, if it had a name.
    pub operation: Option<OpId>,
    /// What came of it.
    pub decision: Decision,
}

/// How far the table has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The newest entry that was applied, blank and membership entries included.
    pub last_applied: Option<LogId>,
    /// Cluster time, in ms.
    pub now_ms: u64,
    /// The newest wall clock of any entry, in ms since 1970.
    pub wall_ms: u64,
    /// When the next lease or wait ends, in cluster ms.
    pub next_deadline_ms: Option<u64>,
}

/// Is told of everything that is applied, in log order. Calls come one at a time, outside the
/// table's lock, and must not block.
pub trait Observer: Send + Sync + 'static {
    /// Some entries were applied. Each event comes with the index of the entry it happened in.
    /// Entries that are applied again after a start are reported like all others.
    fn applied(&self, batch: &[Applied], events: &[(u64, Event)], progress: Progress);

    /// A snapshot took the place of the table: what happened in between was not seen.
    fn replaced(&self, progress: Progress);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

impl Observer for Nobody {
    fn applied(&self, _: &[Applied], _: &[(u64, Event)], _: Progress) {}

    fn replaced(&self, _: Progress) {}
}
