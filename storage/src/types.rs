//! openraft's types, as this cluster uses them.

use std::fmt;
use std::sync::Arc;

use evermind_lock::command::{Command, Stamp};
use serde::{Deserialize, Serialize};

/// What the leader proposes: a command and the time of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// When, by the leader's clock.
    pub stamp: Stamp,
    /// What. Shared: an entry is copied for each follower, for the log and for the table, and goes
    /// through half a dozen queues.
    #[serde(deserialize_with = "shared")]
    pub command: Arc<Command>,
}

/// Serde's own way is to make a box first.
fn shared<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Arc<Command>, D::Error> {
    Command::deserialize(from).map(Arc::new)
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.command, self.stamp.cluster_ms)
    }
}

/// One leader a term (`leader_id_std`), members known by id alone: where they are is replicated
/// state of its own. Outcomes are not returned through openraft: whoever waits for one is told by
/// the apply of its own node. What is returned is whether a proposal was taken ([`Tell`]).
#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub struct TypeConfig;

// By hand, because openraft's macro knows no responder of ours; the rest are its defaults.
impl openraft::RaftTypeConfig for TypeConfig {
    type D = Proposal;
    type R = ();
    type NodeId = u64;
    type Node = openraft::EmptyNode;
    type Term = u64;
    type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Proposal, u64, openraft::EmptyNode>;
    type Entry =
        openraft::Entry<<Self::LeaderId as openraft::vote::RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = openraft::impls::TokioRuntime;
    type Responder<T>
        = Tell<T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// Term and index of an entry.
pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// An entry of the log.
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
/// A vote.
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
/// The voters and learners, and the entry that made them so.
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;

/// Is told what became of a proposal: whether consensus took it, and that it was applied.
pub struct Tell<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Tell<T> {
    /// Calls `told`, once, from consensus's own task: it must not block.
    pub fn new(told: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(told))
    }
}

impl<T: openraft::OptionalSend + 'static> openraft::raft::responder::Responder<TypeConfig, T>
    for Tell<T>
{
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}
