//! Stores that are fenced by token: what a lock guards, one for each lock.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use evermind_checker::history::{Recorder, Write};

use crate::time::Timeline;

/// Refuses each write whose token is below the highest that it has seen.
#[derive(Debug, Default)]
pub(crate) struct Stores(Mutex<HashMap<String, u64>>);

impl Stores {
    /// Decides on a write and records it; whether it was taken.
    pub(crate) fn write(
        &self,
        recorder: &Recorder,
        timeline: Timeline,
        key: &str,
        uuid: &str,
        token: u64,
    ) -> bool {
        let mut highest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = highest.entry(key.to_owned()).or_default();
        let accepted = token >= *seen;
        *seen = token.max(*seen);
        // Recorded under the lock: the store's decisions are one sequence.
        recorder.write(Write {
            key: key.to_owned(),
            uuid: uuid.to_owned(),
            token,
            at: timeline.now(),
            accepted,
        });
        accepted
    }
}
