//! What every node must agree on about the cluster itself.

use std::sync::Arc;

use super::{LockTable, refused};
use crate::command::Member;
use crate::limits::MEMBERS_MAX;
use crate::outcome::{Limit, Outcome, Refusal};
use crate::record::RecordKey;

impl LockTable {
    /// Only the first counts.
    pub(super) fn found(&mut self, global_prefix: String) -> Outcome {
        if self.state.meta.global_prefix.is_none() {
            self.state.meta.global_prefix = Some(global_prefix);
            self.touched.insert(RecordKey::Meta);
        }
        Outcome::Done
    }

    /// The disk is settled at first contact; where a member is may change.
    pub(super) fn record_member(&mut self, member: Member) -> Outcome {
        match self.state.members.get(&member.node) {
            Some(known) if known.disk != member.disk || *known == member => return Outcome::Done,
            None if self.state.members.len() >= MEMBERS_MAX => {
                return refused(Refusal::LimitReached(Limit::Members));
            }
            Some(_) | None => {}
        }
        self.touched.insert(RecordKey::Member(member.node));
        Arc::make_mut(&mut self.state.members).insert(member.node, member);
        Outcome::Done
    }
}
