//! What a checkpoint or a snapshot covers.

use serde::{Deserialize, Serialize};

use crate::entry::{LogIdRecord, StoredMembershipRecord};
use crate::types::{LogId, SnapshotMeta, StoredMembership};

/// What a state of the machine covers, as it is kept and sent, in format version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateMeta {
    /// The newest entry that was applied; none in an empty table.
    pub last_applied: Option<LogIdRecord>,
    /// The members as of that entry.
    pub membership: StoredMembershipRecord,
    /// Cluster time as of that entry, in ms.
    pub cluster_ms: u64,
}

impl StateMeta {
    /// The newest entry that was applied.
    pub fn last_applied(&self) -> Option<LogId> {
        self.last_applied.map(LogId::from)
    }

    /// The members as of that entry.
    pub fn membership(&self) -> StoredMembership {
        self.membership.clone().into()
    }

    /// The same in openraft's words.
    pub fn snapshot_meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.last_applied(),
            last_membership: self.membership(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::entry::MembershipRecord;

    #[test]
    fn the_bytes_of_this_version_never_change() {
        let meta = StateMeta {
            last_applied: Some(LogIdRecord { term: 3, index: 9 }),
            membership: StoredMembershipRecord {
                log_id: Some(LogIdRecord { term: 1, index: 2 }),
                membership: MembershipRecord {
                    configs: vec![[1, 2, 3].into()],
                    nodes: [1, 2, 3, 4].into(),
                },
            },
            cluster_ms: 200,
        };
        let bytes = [
            codec::VERSION,
            1,
            3,
            9,
            1,
            1,
            2,
            1,
            3,
            1,
            2,
            3,
            4,
            1,
            2,
            3,
            4,
            200,
        ];
        assert_eq!(codec::encode(&meta), bytes);
        assert_eq!(codec::decode::<StateMeta>(&bytes).ok(), Some(meta));
    }
}
