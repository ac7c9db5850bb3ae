//! The words between a node and whoever serves its callers.

use std::time::Duration;

use evermind_lock::command::Idempotency;
use evermind_lock::command::{KeyId, LicenceId, NodeId};
use evermind_lock::licence::Standing;
use evermind_lock::names::{Holder, IdentityId, Key};

/// A caller whose API key was found in applied state. `apply` checks the key again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The key's public number.
    pub key: KeyId,
    /// Of which licence it is; of a built-in one if the operator chose it.
    pub licence: LicenceId,
    /// Whose locks it opens.
    pub identity: IdentityId,
    /// Of its licence. Not active is for good, so nothing needs to be proposed for such a caller.
    pub standing: Standing,
}

/// What to take.
#[derive(Debug, Clone)]
pub struct AcquireRequest {
    /// Which lock.
    pub key: Key,
    /// The caller's uuid, or the one made for it.
    pub holder: Holder,
    /// 1 to 86,400,000.
    pub lease_ms: u64,
    /// 0 to 1000.
    pub retry_attempts: u32,
    /// Already drawn; 0 to 600,000.
    pub window_ms: u64,
    /// Relies on order.
    pub fifo: bool,
    /// The `Idempotency-Key` and the request's digest.
    pub idempotency: Option<Idempotency>,
}

/// What to extend.
#[derive(Debug, Clone)]
pub struct ExtendRequest {
    /// Which lock.
    pub key: Key,
    /// The holder.
    pub holder: Holder,
    /// 1 to 86,400,000.
    pub extend_by_ms: u64,
    /// The `Idempotency-Key` and the request's digest.
    pub idempotency: Option<Idempotency>,
}

/// What to give back.
#[derive(Debug, Clone)]
pub struct ReleaseRequest {
    /// Which lock.
    pub key: Key,
    /// The holder.
    pub holder: Holder,
    /// The `Idempotency-Key` and the request's digest.
    pub idempotency: Option<Idempotency>,
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// Sees every operation answered before it was asked (`ReadIndex`).
    Linearizable,
    /// Local applied state, however old.
    Stale,
}

/// A node's part in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Proposes.
    Leader,
    /// Follows.
    Follower,
    /// Follows without a vote.
    Learner,
    /// Asks for votes.
    Candidate,
}

/// One member, as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its id.
    pub id: NodeId,
    /// `http://host:port`; empty until it is known.
    pub http: String,
    /// `host:port`
    pub peer: String,
    /// Whether it votes.
    pub voter: bool,
}

/// What a node knows of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterStatus {
    /// This node.
    pub id: NodeId,
    /// Its part.
    pub role: Role,
    /// The leader it follows, or itself.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: u64,
    /// Every member, by id.
    pub members: Vec<MemberStatus>,
    /// The newest applied entry.
    pub applied_index: u64,
    /// The replicated prefix of displayed lock names.
    pub global_prefix: String,
}

/// Why a node cannot answer. Never a refusal: those are outcomes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// No leader within the time a request waits for one. Nothing was proposed.
    #[error("the cluster has no leader right now; nothing was done")]
    NoLeader {
        /// When to try again.
        retry_after: Duration,
    },
    /// Proposed, and what came of it is not known.
    #[error("the request was passed on, and what came of it is not known")]
    Unknown,
    /// This node has as many operations open as it may: [`evermind_lock::limits::OPEN_OPERATIONS_MAX`].
    #[error("this node has as many requests open as it can hold")]
    Busy,
    /// So many listings of this identity wait for their turn already.
    #[error(
        "16 listings of this identity wait on this node already, and one is made at a time: list less at once"
    )]
    Listings,
    /// This node is stopping. Nothing was proposed.
    #[error("this node is shutting down; nothing was done")]
    Stopping,
}
