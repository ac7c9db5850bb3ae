//! What is over is ended in pieces, so that no entry holds up the next.

use super::{Entry, LockTable};
use crate::command::Action;
use crate::deadlines::Due;
use crate::limits::{PIECE_OF_COMMAND_MAX, PIECE_OF_EXPIRE_MAX};

/// How many removals, grants and detachments one entry makes of what is over.
///
/// A piece is a bound on time, not on truth: what is over and not yet ended is gone for every command
/// and every look (`over.rs`). Part of the rules: every node of a cluster must have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pieces {
    /// Of an [`Action::Expire`].
    pub of_expire: u32,
    /// Before any other command and, as its own effects count too, with it.
    pub of_command: u32,
}

impl Default for Pieces {
    fn default() -> Self {
        Self {
            of_expire: PIECE_OF_EXPIRE_MAX,
            of_command: PIECE_OF_COMMAND_MAX,
        }
    }
}

impl Pieces {
    pub(super) fn of(self, action: &Action) -> u32 {
        match action {
            Action::Expire => self.of_expire,
            _ => self.of_command,
        }
    }
}

impl LockTable {
    /// The same table with other pieces: for tests, whose histories are small.
    ///
    /// # Panics
    /// If one of them is 0: nothing would ever end.
    #[must_use]
    pub fn in_pieces(mut self, pieces: Pieces) -> Self {
        assert!(pieces.of_expire > 0 && pieces.of_command > 0, "{pieces:?}");
        self.pieces = pieces;
        self
    }

    /// Whether anything is over and not yet ended, or free and not yet granted.
    pub(super) fn is_behind(&self) -> bool {
        let deadlines = &self.index.deadlines;
        self.has_to_follow_up() || deadlines.first_ms().is_some_and(|ms| ms < self.now_ms())
    }

    /// Whether anything is over or to grant for another reason than its end.
    pub(super) fn has_to_follow_up(&self) -> bool {
        !self.index.to_grant.is_empty()
            || self.index.ties.has_over()
            || !self.state.meta.cut_off.is_empty()
    }

    /// Ends what is over as long as the entry's piece lasts: first where somebody waits.
    pub(super) fn end_over(&mut self, entry: &mut Entry<'_>) {
        while entry.left > 0 {
            let due = self.index.deadlines.due(self.now_ms());
            if let Some((_, resource)) = self.index.to_grant.first_key_value() {
                let resource = resource.clone();
                self.hand_over(entry, &resource, None);
            } else if let Some(due @ (Due::Wait(..) | Due::Contended(..))) = due {
                self.end_due(entry, due);
            } else if let Some((resource, place)) = self.index.ties.first_over().cloned() {
                self.catch_up_wait(entry, &resource, place);
            } else if let Some((key, _)) = self.state.meta.cut_off.first_key_value() {
                self.end_cut_off(entry, *key);
            } else if let Some(due) = due {
                self.end_due(entry, due);
            } else {
                return;
            }
        }
    }

    fn end_due(&mut self, entry: &mut Entry<'_>, due: Due) {
        match due {
            Due::Lease(resource, token) | Due::Contended(resource, token) => {
                self.end_grant(entry, &resource, token);
            }
            Due::Wait(resource, place) | Due::Place(resource, place) => {
                self.catch_up_wait(entry, &resource, place);
            }
            Due::Idempotency(id) => {
                entry.spend();
                self.forget(&id);
            }
        }
    }
}
