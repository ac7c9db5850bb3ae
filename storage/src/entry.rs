//! openraft's words in a shape of our own: what is kept and sent never depends on how openraft
//! lays out its types.

use std::collections::BTreeSet;

use openraft::{EmptyNode, EntryPayload, Membership};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::codec::{self, CodecError};
use crate::types::{Entry, LogId, Proposal, StoredMembership, Vote};

/// Reads an index. The last number of all is none: everybody counts on from an index.
fn index<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match u64::deserialize(deserializer)? {
        u64::MAX => Err(D::Error::custom("an index after which none can come")),
        index => Ok(index),
    }
}

/// Term and index of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogIdRecord {
    /// The term of the leader that proposed it.
    pub term: u64,
    /// Its place in the log.
    #[serde(deserialize_with = "index")]
    pub index: u64,
}

impl From<LogId> for LogIdRecord {
    fn from(id: LogId) -> Self {
        Self {
            term: **id.committed_leader_id(),
            index: id.index,
        }
    }
}

impl From<LogIdRecord> for LogId {
    fn from(id: LogIdRecord) -> Self {
        LogId::new_term_index(id.term, id.index)
    }
}

/// A vote: for whom, and whether a quorum granted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteRecord {
    /// The term.
    pub term: u64,
    /// The node voted for.
    pub node: u64,
    /// Whether that node is the term's leader.
    pub committed: bool,
}

impl From<Vote> for VoteRecord {
    fn from(vote: Vote) -> Self {
        Self {
            term: vote.leader_id.term,
            node: vote.leader_id.voted_for,
            committed: vote.committed,
        }
    }
}

impl From<VoteRecord> for Vote {
    fn from(vote: VoteRecord) -> Self {
        if vote.committed {
            Vote::new_committed(vote.term, vote.node)
        } else {
            Vote::new(vote.term, vote.node)
        }
    }
}

/// The voters and learners of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MembershipRecord {
    /// One set of voters, or two while one takes over from the other.
    pub configs: Vec<BTreeSet<u64>>,
    /// Everyone who receives the log: the voters and the learners.
    pub nodes: BTreeSet<u64>,
}

impl From<&Membership<u64, EmptyNode>> for MembershipRecord {
    fn from(membership: &Membership<u64, EmptyNode>) -> Self {
        Self {
            configs: membership.get_joint_config().clone(),
            nodes: membership.nodes().map(|(id, _)| *id).collect(),
        }
    }
}

impl From<MembershipRecord> for Membership<u64, EmptyNode> {
    /// A voter that `nodes` forgot is a node all the same.
    fn from(record: MembershipRecord) -> Self {
        Membership::new_with_defaults(record.configs, record.nodes)
    }
}

/// A membership and the entry that made it so.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StoredMembershipRecord {
    /// The entry; none before the first.
    pub log_id: Option<LogIdRecord>,
    /// The members.
    pub membership: MembershipRecord,
}

impl From<&StoredMembership> for StoredMembershipRecord {
    fn from(stored: &StoredMembership) -> Self {
        Self {
            log_id: stored.log_id().map(LogIdRecord::from),
            membership: stored.membership().into(),
        }
    }
}

impl From<StoredMembershipRecord> for StoredMembership {
    fn from(record: StoredMembershipRecord) -> Self {
        StoredMembership::new(record.log_id.map(LogId::from), record.membership.into())
    }
}

/// What an entry does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayloadRecord {
    /// Nothing: a new leader's first entry.
    Blank,
    /// A proposal.
    Normal(Proposal),
    /// New members.
    Membership(MembershipRecord),
}

/// An entry, as it is kept and sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRecord {
    /// The term of the leader that proposed it.
    pub term: u64,
    /// Its place in the log.
    #[serde(deserialize_with = "index")]
    pub index: u64,
    /// What it does.
    pub payload: PayloadRecord,
}

impl From<EntryRecord> for Entry {
    fn from(record: EntryRecord) -> Self {
        Entry {
            log_id: LogId::new_term_index(record.term, record.index),
            payload: match record.payload {
                PayloadRecord::Blank => EntryPayload::Blank,
                PayloadRecord::Normal(proposal) => EntryPayload::Normal(proposal),
                PayloadRecord::Membership(membership) => {
                    EntryPayload::Membership(membership.into())
                }
            },
        }
    }
}

impl From<&Entry> for EntryRecord {
    fn from(entry: &Entry) -> Self {
        let LogIdRecord { term, index } = entry.log_id.into();
        Self {
            term,
            index,
            payload: match &entry.payload {
                EntryPayload::Blank => PayloadRecord::Blank,
                EntryPayload::Normal(proposal) => PayloadRecord::Normal(proposal.clone()),
                EntryPayload::Membership(membership) => {
                    PayloadRecord::Membership(membership.into())
                }
            },
        }
    }
}

/// [`EntryRecord`] borrowed, byte for byte the same: the append path copies no proposal.
#[derive(Serialize)]
struct EntryRef<'a> {
    term: u64,
    index: u64,
    payload: PayloadRef<'a>,
}

#[derive(Serialize)]
enum PayloadRef<'a> {
    Blank,
    Normal(&'a Proposal),
    Membership(MembershipRecord),
}

/// Appends an entry's bytes to `out`.
pub fn encode(entry: &Entry, out: &mut Vec<u8>) {
    let LogIdRecord { term, index } = entry.log_id.into();
    let payload = match &entry.payload {
        EntryPayload::Blank => PayloadRef::Blank,
        EntryPayload::Normal(proposal) => PayloadRef::Normal(proposal),
        EntryPayload::Membership(membership) => PayloadRef::Membership(membership.into()),
    };
    codec::encode_into(
        &EntryRef {
            term,
            index,
            payload,
        },
        out,
    );
}

/// Reads an entry that takes up all of `bytes`.
pub fn decode(bytes: &[u8]) -> Result<Entry, CodecError> {
    Ok(codec::decode::<EntryRecord>(bytes)?.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use evermind_lock::command::{Action, Command, Stamp};

    use super::*;

    fn entries() -> Vec<Entry> {
        let proposal = Proposal {
            stamp: Stamp {
                cluster_ms: 7,
                term: 3,
                wall_ms: 1_700_000_000_000,
            },
            command: Arc::new(Command {
                operation: None,
                action: Action::Expire,
            }),
        };
        let joint = Membership::new_with_defaults(
            vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])],
            [5],
        );
        [
            EntryPayload::Blank,
            EntryPayload::Normal(proposal),
            EntryPayload::Membership(joint),
        ]
        .into_iter()
        .zip(10..)
        .map(|(payload, index)| Entry {
            log_id: LogId::new_term_index(3, index),
            payload,
        })
        .collect()
    }

    #[test]
    fn an_entry_comes_back_as_it_was() {
        for entry in entries() {
            let mut bytes = Vec::new();
            encode(&entry, &mut bytes);
            assert_eq!(decode(&bytes).expect("our own bytes"), entry);
        }
    }

    #[test]
    fn the_borrowed_and_the_owned_shape_have_the_same_bytes() {
        for entry in entries() {
            let mut borrowed = Vec::new();
            encode(&entry, &mut borrowed);
            assert_eq!(borrowed, codec::encode(&EntryRecord::from(&entry)));
        }
    }

    #[test]
    fn a_vote_comes_back_as_it_was() {
        for vote in [Vote::new(3, 1), Vote::new_committed(4, 2)] {
            assert_eq!(Vote::from(VoteRecord::from(vote)), vote);
        }
    }

    #[test]
    fn an_empty_membership_stays_empty() {
        let empty = StoredMembership::default();
        let record = StoredMembershipRecord::from(&empty);
        assert_eq!(StoredMembership::from(record), empty);
    }

    /// A peer or a disk that says so would have the log count past the end of all numbers.
    #[test]
    fn an_index_that_nothing_can_follow_is_refused() {
        for (index, is_read) in [(u64::MAX - 1, true), (u64::MAX, false)] {
            let mut bytes = Vec::new();
            let blank = Entry {
                log_id: LogId::new_term_index(3, index),
                payload: EntryPayload::Blank,
            };
            encode(&blank, &mut bytes);
            assert_eq!(decode(&bytes).is_ok(), is_read, "{index}");
            let id = codec::encode(&LogIdRecord { term: 3, index });
            assert_eq!(codec::decode::<LogIdRecord>(&id).is_ok(), is_read);
        }
    }

    #[test]
    fn the_bytes_of_a_blank_entry_never_change() {
        let mut bytes = Vec::new();
        encode(&entries()[0], &mut bytes);
        assert_eq!(bytes, [codec::VERSION, 3, 10, 0]);
    }
}
