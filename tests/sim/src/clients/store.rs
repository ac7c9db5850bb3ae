//! Stores that are fenced by token: what a lock is for.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use evermind_checker::history::{Moment, Write};

/// One store for each lock. Each takes a write only with a token that is not below the highest it
/// has seen.
#[derive(Debug, Default)]
pub struct Stores(Mutex<BTreeMap<String, u64>>);

impl Stores {
    /// Tries to write.
    pub fn write(&self, key: &str, uuid: &str, token: u64, at: Moment) -> Write {
        let mut stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let highest = stores.entry(key.to_owned()).or_default();
        let accepted = token >= *highest;
        *highest = token.max(*highest);
        Write {
            key: key.to_owned(),
            uuid: uuid.to_owned(),
            token,
            at,
            accepted,
        }
    }
}
