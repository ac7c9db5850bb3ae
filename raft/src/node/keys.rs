//! Finds whose key it is. Only a filter: the command carries the key and `apply` decides.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evermind_lock::command::KeyHash;
use evermind_lock::licence::Standing;
use evermind_lock::table::LockTable;
use tokio::time::Instant;

use super::core::{Core, lock};
use super::reads::Reads;
use crate::api::{Caller, NodeError};

/// How long a key is remembered as unknown. A key made within this time after it was tried is
/// refused for the rest of it.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);

/// How many unknown keys of each kind are remembered. When full, the expired ones go; if none is,
/// the newest is not remembered and costs a share of a (coalesced) read.
const UNKNOWN_MAX: usize = 10_000;

/// How often, at most, the expired are looked for.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// Keys of one kind that were looked for in vain.
#[derive(Clone, Default)]
struct Unknown(Arc<Mutex<Remembered>>);

#[derive(Default)]
struct Remembered {
    until: HashMap<KeyHash, Instant>,
    swept: Option<Instant>,
}

impl Unknown {
    fn has(&self, hash: &KeyHash) -> bool {
        lock(&self.0)
            .until
            .get(hash)
            .is_some_and(|until| Instant::now() < *until)
    }

    fn remember(&self, hash: KeyHash) {
        let mut unknown = lock(&self.0);
        let now = Instant::now();
        let swept = unknown.swept.is_some_and(|swept| now < swept + SWEEP_EVERY);
        if unknown.until.len() >= UNKNOWN_MAX && !swept {
            unknown.swept = Some(now);
            unknown.until.retain(|_, until| now < *until);
        }
        if unknown.until.len() < UNKNOWN_MAX {
            unknown.until.insert(hash, now + UNKNOWN_FOR);
        }
    }
}

#[derive(Clone)]
pub(crate) struct Keys {
    core: Arc<Core>,
    reads: Reads,
    unknown_callers: Unknown,
    unknown_licences: Unknown,
}

impl Keys {
    pub(crate) fn new(core: Arc<Core>, reads: Reads) -> Self {
        Self {
            core,
            reads,
            unknown_callers: Unknown::default(),
            unknown_licences: Unknown::default(),
        }
    }

    /// `Ok(None)`: no such API key, as of a linearizable read at most [`UNKNOWN_FOR`] ago.
    pub(crate) async fn caller(&self, hash: KeyHash) -> Result<Option<Caller>, NodeError> {
        let look = |table: &LockTable| {
            table.api_key(&hash).map(|found| Caller {
                key: found.id,
                licence: found.licence,
                identity: found.identity,
                standing: found.standing,
            })
        };
        self.find(&self.unknown_callers, hash, look).await
    }

    /// `Ok(None)`: no such licence key, as of a linearizable read at most [`UNKNOWN_FOR`] ago.
    pub(crate) async fn licence(&self, hash: KeyHash) -> Result<Option<Standing>, NodeError> {
        let look = |table: &LockTable| table.licence_key(&hash);
        self.find(&self.unknown_licences, hash, look).await
    }

    async fn find<T>(
        &self,
        unknown: &Unknown,
        hash: KeyHash,
        look: impl Fn(&LockTable) -> Option<T>,
    ) -> Result<Option<T>, NodeError> {
        if let Some(found) = self.core.table.read(&look) {
            return Ok(Some(found));
        }
        if unknown.has(&hash) {
            return Ok(None);
        }
        self.reads.barrier().await?;
        let found = self.core.table.read(&look);
        if found.is_none() {
            unknown.remember(hash);
        }
        Ok(found)
    }
}
