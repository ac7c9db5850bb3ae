//! A wait that goes on although its place was dropped: its node stood still for longer than a place
//! is kept, and its caller is still there.

use super::acquire::Terms;
use super::{Entry, LockTable};
use crate::command::{OpId, Resume};
use crate::limits::{RETRY_ATTEMPTS_MAX, WINDOW_MS_MAX};
use crate::outcome::{HeldReason, Outcome};

/// What an acquire has behind it. Nothing, for all but those that are resumed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Before {
    /// How long it has waited.
    pub(super) waited_ms: u64,
    /// What it was charged for.
    pub(super) attempts: u32,
}

impl Before {
    /// Whether it goes on with a wait, and does not begin one.
    pub(super) fn is_resumed(self) -> bool {
        self.attempts > 0
    }

    /// Why a held resource is refused to it at once.
    pub(super) fn reason(self) -> HeldReason {
        if self.is_resumed() {
            HeldReason::WindowPassed
        } else {
            HeldReason::NoWait
        }
    }

    /// When the wait began, as if it had never been interrupted: what polling would have cost is
    /// counted from here.
    pub(super) fn joined_ms(self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.waited_ms)
    }

    /// What is left of the window.
    pub(super) fn rest(self, terms: Terms) -> Terms {
        Terms {
            window_ms: terms.window_ms.saturating_sub(self.waited_ms),
            ..terms
        }
    }
}

impl LockTable {
    /// Takes the lock, or waits for the rest of the window at the end of the queue. Charged as if the
    /// wait had gone on: never more than 1 + `retry_attempts` in all.
    ///
    /// Where the same uuid waits again, its client has repeated the request elsewhere: this one is told
    /// what that one is, and that wait keeps its lease and its window.
    pub(super) fn resume(
        &mut self,
        entry: &mut Entry<'_>,
        operation: OpId,
        resume: Resume,
    ) -> Outcome {
        let Resume {
            acquire,
            waited_ms,
            attempts,
        } = resume;
        let window_ms = acquire.window_ms.min(WINDOW_MS_MAX);
        let before = Before {
            waited_ms: waited_ms.min(window_ms),
            attempts: attempts.clamp(1, 1 + RETRY_ATTEMPTS_MAX),
        };
        self.acquire_after(entry, operation, acquire, before)
    }
}
