//! Finds who calls. Only a filter: the command carries the key's number and `apply` decides.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evermind_lock::command::KeyHash;
use tokio::time::Instant;

use super::core::{Core, lock};
use super::reads::Reads;
use crate::api::{Caller, NodeError};

/// How long a key is remembered as unknown. A key made within this time after it was tried is
/// refused for the rest of it.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);

/// How many unknown keys are remembered. When full, the expired ones go; if none is, the newest
/// is not remembered and costs a share of a (coalesced) read.
const UNKNOWN_MAX: usize = 10_000;

#[derive(Clone)]
pub(crate) struct Keys {
    core: Arc<Core>,
    reads: Reads,
    unknown: Arc<Mutex<HashMap<KeyHash, Instant>>>,
}

impl Keys {
    pub(crate) fn new(core: Arc<Core>, reads: Reads) -> Self {
        Self {
            core,
            reads,
            unknown: Arc::default(),
        }
    }

    /// `Ok(None)`: no such key, as of a linearizable read at most [`UNKNOWN_FOR`] ago.
    pub(crate) async fn find(&self, hash: KeyHash) -> Result<Option<Caller>, NodeError> {
        if let Some(caller) = self.applied(&hash) {
            return Ok(Some(caller));
        }
        if lock(&self.unknown)
            .get(&hash)
            .is_some_and(|until| Instant::now() < *until)
        {
            return Ok(None);
        }
        self.reads.barrier().await?;
        let found = self.applied(&hash);
        if found.is_none() {
            let mut unknown = lock(&self.unknown);
            let now = Instant::now();
            if unknown.len() >= UNKNOWN_MAX {
                unknown.retain(|_, until| now < *until);
            }
            if unknown.len() < UNKNOWN_MAX {
                unknown.insert(hash, now + UNKNOWN_FOR);
            }
        }
        Ok(found)
    }

    fn applied(&self, hash: &KeyHash) -> Option<Caller> {
        self.core.table.read(|table| {
            table.api_key(hash).map(|(key, identity)| Caller {
                key,
                identity: identity.clone(),
            })
        })
    }
}
