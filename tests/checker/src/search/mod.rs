//! G, the general search: whether some order of the operations explains every answer.
//!
//! Each lock for itself, by the search of Wing and Gong in the just-in-time form of Lowe ("Testing
//! for linearizability", 2017): it goes through the history in time and keeps every state in which
//! the lock may be, each with the operations in flight that took effect already; an operation takes
//! effect when its answer is read at the latest, and before that only where another needs it.
//!
//! An operation without an answer may take effect at any time, and here any number of times: that
//! lets a wrong history pass now and then, never accuses a right one, and keeps the number of
//! states small however many there are. The rules that take the log as the order are the sharp ones.

mod lane;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::clocks::ClockBound;
use crate::direct::counts;
use crate::history::{History, Record};
use crate::verdict::Verdict;
use lane::Lane;
use state::Said;

/// How much is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowOptions {
    /// Operations in one window. Windows that follow one another are searched as one.
    pub max_records: usize,
    /// Windows of one lock; where it has more, every so many of them, the first always.
    pub windows_per_key: usize,
    /// States that are looked at in one window; one that needs more is undecided.
    pub budget: u64,
}

impl Default for WindowOptions {
    fn default() -> Self {
        Self {
            max_records: 64,
            windows_per_key: 1_000,
            budget: 100_000,
        }
    }
}

/// Searches windows of every lock's history.
///
/// # Panics
///
/// If a window is to hold no operation.
pub fn search(history: &History, clocks: ClockBound<'_>, options: WindowOptions) -> Verdict {
    assert!(options.max_records > 0, "a window holds an operation");
    let mut of_key: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in &history.records {
        of_key.entry(&record.key).or_default().push(record);
    }
    let mut verdict = counts(history);
    for (key, records) in of_key {
        let said = Said::of(&records, clocks);
        Lane::new(key, &said, options).search(&mut verdict);
    }
    verdict
}
