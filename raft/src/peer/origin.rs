//! What a peer may say, by who it is.
//!
//! The node at the other end of a connection proved itself in the handshake, with the start it is
//! in. A command that it forwards is its own, of that start: never another node's, never one of the
//! cluster's own actions, which the leader alone proposes. A vote that it asks for, and a log that it
//! sends, is its own too.

use evermind_lock::command::{Action, Command, NodeId};
use evermind_lock::limits::SESSION_STEP_MAX;
use evermind_storage::types::Vote;

use super::endpoint::Contact;

/// How far one message may raise the term. Elections take a fifth of a second and more: no cluster
/// gets there in its life, and a term near the end of all numbers would leave none for the next
/// election.
pub(super) const TERM_STEP_MAX: u64 = 1 << 32;

/// How far a node's start may be beyond the newest that is recorded of it.
pub(crate) const BOOT_STEP_MAX: u64 = SESSION_STEP_MAX;

/// Whether `command` may come from the peer: if not, why.
pub(super) fn check_command(from: &Contact, command: &Command) -> Result<(), &'static str> {
    let Some(operation) = command.operation else {
        return Err("a command of the cluster's own");
    };
    let own = |node: NodeId, boot: u64| node == from.node && boot == from.boot;
    if !own(operation.id.node, operation.id.boot) {
        return Err("an operation of another node, or of another start of it");
    }
    if operation.answered_below > operation.id.sequence {
        return Err("an operation that was answered already");
    }
    match &command.action {
        Action::Abandon(attachment) | Action::Reattach(attachment) => {
            let of = attachment.operation;
            if own(of.node, of.boot) {
                Ok(())
            } else {
                Err("a hang-up of another node's caller")
            }
        }
        Action::DetachNode { node, boot } => {
            if own(*node, *boot) {
                Ok(())
            } else {
                Err("that another node is gone")
            }
        }
        Action::Expire
        | Action::Found { .. }
        | Action::RecordMember(_)
        | Action::AddApiKey { .. } => Err("an action of the leader's"),
        Action::Acquire(_)
        | Action::Resume(_)
        | Action::Extend(_)
        | Action::Release(_)
        | Action::CreateLicence(_)
        | Action::RevokeLicence(_)
        | Action::CreateApiKey { .. }
        | Action::DeleteApiKey { .. }
        | Action::DeleteApiKeyById { .. } => Ok(()),
    }
}

/// Whether a vote that the peer sends as its own may be that.
pub(super) fn check_vote(from: NodeId, vote: &Vote) -> Result<(), &'static str> {
    if vote.leader_id.voted_for == from {
        Ok(())
    } else {
        Err("a vote of another node")
    }
}

/// Whether a term may follow on `known`.
pub(crate) fn is_plausible(term: u64, known: u64) -> bool {
    term.saturating_sub(known) <= TERM_STEP_MAX
}
