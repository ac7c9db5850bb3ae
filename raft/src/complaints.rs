//! The same complaint at most once a minute.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use evermind_lock::command::NodeId;
use tokio::time::Instant;

/// Between two complaints about the same.
const EVERY: Duration = Duration::from_mins(1);

/// Complaints about so many things are told apart: peers decide how many there are.
const KINDS_MAX: usize = 1_024;

/// When what was last complained about. Its key is the peer that it is about, and the kind.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Mutex<BTreeMap<(NodeId, &'static str), Last>>);

#[derive(Debug, Clone, Copy)]
struct Last {
    at: Instant,
    /// It was told, and has not been over since.
    stands: bool,
}

impl Complaints {
    /// Whether to complain now. Counts as having done so.
    pub(crate) fn may(&self, node: NodeId, kind: &'static str) -> bool {
        self.may_at(node, kind, Instant::now())
    }

    fn may_at(&self, node: NodeId, kind: &'static str, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = last.get(&(node, kind));
        if told.is_some_and(|told| now.duration_since(told.at) < EVERY) {
            return false;
        }
        if last.len() >= KINDS_MAX {
            last.retain(|_, told| now.duration_since(told.at) < EVERY);
        }
        if last.len() >= KINDS_MAX {
            return false;
        }
        let told = Last {
            at: now,
            stands: true,
        };
        last.insert((node, kind), told);
        true
    }

    /// It is over. Whether a complaint about it stood.
    pub(crate) fn over(&self, node: NodeId, kind: &'static str) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = last.get_mut(&(node, kind));
        told.is_some_and(|told| std::mem::take(&mut told.stands))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_a_minute_however_often_it_begins_anew() {
        let complaints = Complaints::default();
        let begin = Instant::now();
        let told = |node, kind| complaints.may_at(node, kind, begin);
        assert!(told(1, "a") && !told(1, "a"));
        assert!(told(2, "a") && told(1, "b"));
        assert!(complaints.over(1, "a") && !complaints.over(1, "a"));
        assert!(!told(1, "a") && !complaints.over(1, "a"));
        let told = |node, kind| complaints.may_at(node, kind, begin + EVERY);
        assert!(told(1, "a") && !told(1, "a"));
        assert!(complaints.over(1, "a"));
    }
}
