//! What the log holds: commands, with time and randomness already resolved.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::licence::Period;
use crate::names::{Holder, IdempotencyKey, IdentityId, Key, LicenceName, Resource};

/// A node of the cluster. Never used again once it has been wiped or removed.
pub type NodeId = u64;

/// The time that the leader put on an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Cluster time, in ms. Counts only in an entry of `term`.
    pub cluster_ms: u64,
    /// The term of the clock that made this stamp: a stamp made in term 5 may be appended in
    /// term 7, and says nothing there.
    pub term: u64,
    /// The leader's wall clock, in ms since 1970. For licence dates alone, never for leases.
    pub wall_ms: u64,
}

/// One operation of one boot of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OpId {
    /// The node that serves the HTTP request.
    pub node: NodeId,
    /// How often that node's data directory has been started. Goes up at each start.
    pub boot: u64,
    /// Counts up from 1 within a boot.
    pub sequence: u64,
}

/// The name under which a command takes effect at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Which operation.
    pub id: OpId,
    /// Its server has answered every operation of this boot below this sequence: their outcomes
    /// are dropped, their late duplicates never applied.
    pub answered_below: u64,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Which operation this is. The cluster's own commands have none: applying them again
    /// changes nothing.
    pub operation: Option<Operation>,
    /// What to do.
    pub action: Action,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.operation {
            Some(op) => write!(
                f,
                "{}/{}/{} {}",
                op.id.node,
                op.id.boot,
                op.id.sequence,
                self.action.name()
            ),
            None => f.write_str(self.action.name()),
        }
    }
}

/// The public number of an API key: an identifier for commands, lists and logs, never a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId(pub u64);

/// The public number of a licence: an identifier for commands, lists and logs, never a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LicenceId(pub u64);

/// The SHA-256 of an API key or a licence key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyHash(pub [u8; 32]);

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

/// The name of an HTTP operation, and what it asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// The caller's `Idempotency-Key`.
    pub key: IdempotencyKey,
    /// A digest of the request as its caller wrote it: another digest under the same key is
    /// refused.
    pub fingerprint: [u8; 16],
}

/// What a command does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Take a lock, or join its queue.
    Acquire(Acquire),
    /// Move a lease's end.
    Extend(Extend),
    /// Give a lock back, or end a wait.
    Release(Release),
    /// The caller of `operation` hung up before its answer was handed to a socket.
    Abandon(Attachment),
    /// The caller of `operation` is still there although its node was taken for dead.
    Reattach(Attachment),
    /// The leader has not heard from a node: its attachments of this boot and older are gone.
    DetachNode {
        /// Which node.
        node: NodeId,
        /// Up to which boot.
        boot: u64,
    },
    /// Ends what is due. Also the tick that carries cluster time into the log.
    Expire,
    /// Settles, once, what every node must agree on about the cluster.
    Found {
        /// Shown before each resource: `<GlobalPrefix>:<IdentityId>:<Key>`.
        global_prefix: String,
    },
    /// Records where a member is and, at first contact, which disk it has.
    RecordMember(Member),
    /// Adds the operator's own API key to the built-in licence of an identity, which is made with
    /// the first. Known hashes change nothing; a revoked licence takes no more.
    AddApiKey {
        /// Its hash.
        hash: KeyHash,
        /// Whose locks it opens.
        identity: IdentityId,
    },
    /// Issues a licence.
    CreateLicence(CreateLicence),
    /// Takes a licence back, for good: its keys are refused, its waits end.
    RevokeLicence(LicenceId),
    /// Makes an API key under a licence.
    CreateApiKey {
        /// The hash of the licence key.
        licence: KeyHash,
        /// The hash of the new API key.
        hash: KeyHash,
    },
    /// Deletes an API key of a licence: it is refused, its waits end.
    DeleteApiKey {
        /// The hash of the licence key.
        licence: KeyHash,
        /// The hash of the API key.
        hash: KeyHash,
    },
    /// The same, asked by the operator, who knows no keys: also of a built-in licence.
    DeleteApiKeyById {
        /// Whose.
        licence: LicenceId,
        /// Which.
        key: KeyId,
    },
    /// The acquire of a caller that is still there, and whose place was dropped because its node
    /// stood still: for the rest of its window it waits again, at the end of the line.
    Resume(Resume),
}

impl Action {
    /// A word for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Acquire(_) => "acquire",
            Action::Extend(_) => "extend",
            Action::Release(_) => "release",
            Action::Abandon(_) => "abandon",
            Action::Reattach(_) => "reattach",
            Action::DetachNode { .. } => "detach-node",
            Action::Expire => "expire",
            Action::Found { .. } => "found",
            Action::RecordMember(_) => "record-member",
            Action::AddApiKey { .. } => "add-api-key",
            Action::CreateLicence(_) => "create-licence",
            Action::RevokeLicence(_) => "revoke-licence",
            Action::CreateApiKey { .. } => "create-api-key",
            Action::DeleteApiKey { .. } | Action::DeleteApiKeyById { .. } => "delete-api-key",
            Action::Resume(_) => "resume",
        }
    }
}

/// See [`Action::Acquire`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquire {
    /// The API key; `apply` finds the identity and refuses a deleted key.
    pub caller: KeyId,
    /// Which lock.
    pub key: Key,
    /// The caller's name for this acquisition.
    pub holder: Holder,
    /// The lease, counted from the grant: 1 to [`crate::limits::LEASE_MS_MAX`].
    pub lease_ms: u64,
    /// For counting attempts: up to [`crate::limits::RETRY_ATTEMPTS_MAX`].
    pub retry_attempts: u32,
    /// How long to wait in line at most, up to [`crate::limits::WINDOW_MS_MAX`]; 0 never queues.
    pub window_ms: u64,
    /// Whether the caller relies on the order of the queue. Shown, and otherwise without effect:
    /// every queue is served in order.
    pub fifo: bool,
    /// The caller's `Idempotency-Key`, if it sent one.
    pub idempotency: Option<Idempotency>,
}

/// See [`Action::Resume`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// As it was asked for at first: with its whole window, and all its retries.
    pub acquire: Acquire,
    /// How much of its window is over.
    pub waited_ms: u64,
    /// What it has been charged for so far: at least the first attempt.
    pub attempts: u32,
}

/// See [`Action::Extend`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extend {
    /// The API key.
    pub caller: KeyId,
    /// Which lock.
    pub key: Key,
    /// The holder.
    pub holder: Holder,
    /// Added to the current expiry: 1 to [`crate::limits::LEASE_MS_MAX`].
    pub extend_by_ms: u64,
    /// The caller's `Idempotency-Key`, if it sent one.
    pub idempotency: Option<Idempotency>,
}

/// See [`Action::Release`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The API key.
    pub caller: KeyId,
    /// Which lock.
    pub key: Key,
    /// The holder.
    pub holder: Holder,
    /// The caller's `Idempotency-Key`, if it sent one.
    pub idempotency: Option<Idempotency>,
}

/// See [`Action::CreateLicence`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateLicence {
    /// What its operator calls it. Need not be unique.
    pub name: LicenceName,
    /// Whose locks its keys open; may be another licence's as well.
    pub identity: IdentityId,
    /// The hash of its licence key.
    pub key: KeyHash,
    /// Attempts in one period, up to [`crate::limits::ALLOWANCE_MAX`]; `None` is unlimited.
    pub limit: Option<u64>,
    /// How long a period is.
    pub period: Period,
    /// From this wall-clock ms since 1970 on it is expired.
    pub expires_ms: Option<u64>,
}

/// One HTTP request's tie to a wait or a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The acquire that made it: the attachment's number.
    pub operation: OpId,
    /// On which lock.
    pub resource: Resource,
    /// Under which name.
    pub holder: Holder,
}

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// The random number of its data directory. Recorded once; a later, different one is ignored.
    pub disk: u128,
    /// Where it serves HTTP, as a client would write it: `http://host:port`.
    pub http: String,
    /// Where it serves its peers: `host:port`.
    pub peer: String,
}
