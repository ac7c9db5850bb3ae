//! No two nodes lead in one term.

use std::collections::BTreeMap;

use evermind_raft::api::Role;

use super::{Invariant, Look};
use crate::net::HostId;

/// Who led in each term.
#[derive(Default)]
pub(super) struct OneLeader {
    terms: BTreeMap<u64, HostId>,
}

impl Invariant for OneLeader {
    fn name(&self) -> &'static str {
        "one leader a term"
    }

    fn look(&mut self, look: &Look) -> Result<(), String> {
        for (id, _, status) in &look.nodes {
            // A node that has just won does not lead before its term has its own entry committed:
            // `leader` is it by then.
            if status.role != Role::Leader || status.leader != Some(*id) {
                continue;
            }
            let first = *self.terms.entry(status.term).or_insert(*id);
            if first != *id {
                return Err(format!(
                    "nodes {first} and {id} both led in term {}",
                    status.term
                ));
            }
        }
        Ok(())
    }
}
