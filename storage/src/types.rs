//! openraft's types, as this cluster uses them.

use std::fmt;

use evermind_lock::command::{Command, Stamp};
use serde::{Deserialize, Serialize};

/// What the leader proposes: a command and the time of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// When, by the leader's clock.
    pub stamp: Stamp,
    /// What.
    pub command: Command,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.command, self.stamp.cluster_ms)
    }
}

openraft::declare_raft_types!(
    /// One leader a term (`leader_id_std`), members known by id alone: where they are is replicated
    /// state of its own. Outcomes are not returned through openraft: whoever waits for one is told
    /// by the apply of its own node.
    pub TypeConfig:
        D = Proposal,
        R = (),
        NodeId = u64,
        Node = openraft::EmptyNode,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

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
