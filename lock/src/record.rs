//! The table in pieces: what a checkpoint writes and a snapshot sends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::command::{KeyHash, KeyId, LicenceId, Member, NodeId};
use crate::grant::Grants;
pub use crate::idempotency::{Endpoint, IdempotencyId, IdempotencyRecord};
pub use crate::licence::{ApiKey, Licence};
use crate::names::Resource;
use crate::outcome::CutOff;
use crate::queue::Queue;
pub use crate::session::Session;

/// Names one record. Ordered, so that a checkpoint's batch has one order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RecordKey {
    /// Cluster time, counters, what was settled about the cluster.
    Meta,
    /// A resource: its grants and its queue.
    Lock(Resource),
    /// A node's open operations.
    Session(NodeId),
    /// A named operation.
    Idempotency(IdempotencyId),
    /// An API key.
    ApiKey(KeyHash),
    /// A member.
    Member(NodeId),
    /// A licence, with its usage.
    Licence(LicenceId),
}

/// One record. Each encodes to less than 16 MiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// For [`RecordKey::Meta`].
    Meta(Meta),
    /// For [`RecordKey::Lock`].
    Lock(Lock),
    /// For [`RecordKey::Session`].
    Session(Session),
    /// For [`RecordKey::Idempotency`].
    Idempotency(IdempotencyRecord),
    /// For [`RecordKey::ApiKey`].
    ApiKey(ApiKey),
    /// For [`RecordKey::Member`].
    Member(Member),
    /// For [`RecordKey::Licence`].
    Licence(Licence),
}

/// What belongs to the table as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Cluster time, in ms. Never goes back.
    pub(crate) now_ms: u64,
    /// The newest wall clock seen, in ms since 1970.
    pub(crate) wall_ms: u64,
    /// The next grant's.
    pub(crate) next_token: u64,
    /// The next waiter's.
    pub(crate) next_place: u64,
    /// The next idempotency record's.
    pub(crate) next_record: u64,
    /// The next API key's.
    pub(crate) next_key: u64,
    /// The next licence's. Licences are never forgotten, so every number below has one.
    pub(crate) next_licence: u64,
    /// Settled once.
    pub(crate) global_prefix: Option<String>,
    /// The API keys that are refused since, and under which requests may still wait: those are over.
    pub(crate) cut_off: BTreeMap<KeyId, CutOffAt>,
}

/// Since when an API key is refused, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CutOffAt {
    /// Cluster time.
    pub(crate) at_ms: u64,
    pub(crate) reason: CutOff,
}

impl Default for Meta {
    fn default() -> Self {
        Self {
            now_ms: 0,
            wall_ms: 0,
            next_token: 1,
            next_place: 1,
            next_record: 1,
            next_key: 1,
            next_licence: 1,
            global_prefix: None,
            cut_off: BTreeMap::new(),
        }
    }
}

/// A resource: who holds it, and who waits. Never both empty inside a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    pub(crate) grants: Grants,
    pub(crate) queue: Queue,
}

impl Lock {
    pub(crate) fn is_empty(&self) -> bool {
        self.grants.is_empty() && self.queue.is_empty()
    }
}
