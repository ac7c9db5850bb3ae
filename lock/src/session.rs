//! What came of the open operations of one boot of one node.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::outcome::Decision;

/// Outcomes that are copied together when one of them changes under a frozen view.
const CHUNK: u64 = 256;

/// A node's open operations, and what came of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SessionRecord", into = "SessionRecord")]
pub struct Session {
    pub(crate) boot: u64,
    /// Everything below was answered: forgotten, and never applied again. At least 1.
    pub(crate) answered_below: u64,
    /// How often the callers of this node were detached, all at once: what was attached under a lower
    /// number is over.
    pub(crate) detachments: u64,
    /// Cluster time of the last of these.
    pub(crate) detached_ms: u64,
    /// In chunks of [`CHUNK`] sequences. No chunk is empty.
    chunks: BTreeMap<u64, Arc<BTreeMap<u64, Decision>>>,
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct SessionRecord {
    boot: u64,
    answered_below: u64,
    detachments: u64,
    detached_ms: u64,
    outcomes: Vec<(u64, Decision)>,
}

impl From<SessionRecord> for Session {
    fn from(record: SessionRecord) -> Self {
        let mut session = Session::new(record.boot);
        session.answered_below = record.answered_below;
        session.detachments = record.detachments;
        session.detached_ms = record.detached_ms;
        for (sequence, decision) in record.outcomes {
            session.insert(sequence, decision);
        }
        session
    }
}

impl From<Session> for SessionRecord {
    fn from(session: Session) -> Self {
        let outcomes = session.iter().map(|(s, r)| (s, r.clone())).collect();
        Self {
            boot: session.boot,
            answered_below: session.answered_below,
            detachments: session.detachments,
            detached_ms: session.detached_ms,
            outcomes,
        }
    }
}

impl Session {
    pub(crate) fn new(boot: u64) -> Self {
        Self {
            boot,
            answered_below: 1,
            detachments: 0,
            detached_ms: 0,
            chunks: BTreeMap::new(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Decision)> {
        let chunks = self.chunks.values();
        chunks.flat_map(|chunk| chunk.iter().map(|(sequence, r)| (*sequence, r)))
    }

    /// Whether reading all of it costs next to nothing.
    #[cfg(debug_assertions)]
    pub(crate) fn is_small(&self) -> bool {
        self.chunks.len() <= 2
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<&Decision> {
        self.chunks.get(&(sequence / CHUNK))?.get(&sequence)
    }

    pub(crate) fn insert(&mut self, sequence: u64, decision: Decision) {
        let chunk = self.chunks.entry(sequence / CHUNK).or_default();
        Arc::make_mut(chunk).insert(sequence, decision);
    }

    /// Raises `answered_below`, if it is higher, and forgets what is below.
    pub(crate) fn answered(&mut self, below: u64) {
        if below <= self.answered_below {
            return;
        }
        self.answered_below = below;
        let first_kept = below / CHUNK;
        while let Some(chunk) = self.chunks.first_entry() {
            if *chunk.key() >= first_kept {
                break;
            }
            chunk.remove();
        }
        let Some(chunk) = self.chunks.get_mut(&first_kept) else {
            return;
        };
        let chunk = Arc::make_mut(chunk);
        while chunk.first_key_value().is_some_and(|(s, _)| *s < below) {
            chunk.pop_first();
        }
        if chunk.is_empty() {
            self.chunks.remove(&first_kept);
        }
    }
}
