//! A log in memory, as the oracle of the one on disk.

use evermind_storage::log::LogStore;
use evermind_storage::types::{Entry, LogId, Vote};
use openraft::storage::{RaftLogReader, RaftLogStorage};

/// What a log says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Model {
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<LogId>,
    pub(super) entries: Vec<Entry>,
}

/// One record's worth of change.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Append(Entry),
    Vote(Vote),
    Truncate(LogId),
    Purge(LogId),
}

impl Model {
    pub(super) fn last(&self) -> Option<LogId> {
        self.entries.last().map_or(self.purged, |e| Some(e.log_id))
    }

    pub(super) fn next_index(&self) -> u64 {
        self.last().map_or(0, |last| last.index + 1)
    }

    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(entry) => self.entries.push(entry.clone()),
            Op::Vote(vote) => self.vote = Some(*vote),
            Op::Truncate(after) => self.entries.retain(|e| e.log_id.index <= after.index),
            Op::Purge(upto) => {
                self.entries.retain(|e| e.log_id.index > upto.index);
                self.purged = Some(*upto);
            }
        }
    }

    /// What a log says, read through its own interface.
    pub(super) async fn read(log: &mut LogStore) -> Self {
        let state = log.get_log_state().await.expect("no faults");
        let mut reader = log.get_log_reader().await;
        let model = Self {
            vote: reader.read_vote().await.expect("no faults"),
            purged: state.last_purged_log_id,
            entries: reader.try_get_log_entries(..).await.expect("no faults"),
        };
        assert_eq!(state.last_log_id, model.last());
        model
    }
}
