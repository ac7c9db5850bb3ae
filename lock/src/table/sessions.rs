//! An operation takes effect once.

use std::sync::Arc;

use super::{LockTable, refused};
use crate::command::{NodeId, OpId, Operation};
use crate::limits::{MEMBERS_MAX, OPEN_OPERATIONS_MAX, SESSION_STEP_MAX};
use crate::outcome::{Decision, Limit, Outcome, Refusal};
use crate::record::{RecordKey, Session};

impl LockTable {
    /// Whether an operation may take effect: if not, what its server is told.
    pub(super) fn admit(&mut self, log_index: u64, operation: Operation) -> Option<Decision> {
        let no = |outcome| Some(Decision { log_index, outcome });
        let OpId {
            node,
            boot,
            sequence,
        } = operation.id;
        if !self.is_plausible(operation) {
            return no(Outcome::Stale);
        }
        match self.state.sessions.get(&node).map(|session| session.boot) {
            Some(current) if boot < current => return no(Outcome::Stale),
            Some(current) if boot == current => {}
            None if self.state.sessions.len() >= MEMBERS_MAX => {
                return no(refused(Refusal::LimitReached(Limit::Members)));
            }
            Some(_) | None => self.open_session(node, boot),
        }
        let below = operation.answered_below;
        let session = self.state.sessions.get(&node)?;
        if below > session.answered_below {
            self.change_session(node, |session| session.answered(below));
        }
        let session = self.state.sessions.get(&node)?;
        if sequence < session.answered_below {
            return no(Outcome::Stale);
        }
        if let Some(recorded) = session.get(sequence) {
            return Some(recorded.clone());
        }
        if sequence - session.answered_below >= OPEN_OPERATIONS_MAX {
            return no(refused(Refusal::LimitReached(Limit::OpenOperations)));
        }
        None
    }

    /// Whether a node can have come this far since its last operation: see [`SESSION_STEP_MAX`].
    fn is_plausible(&self, operation: Operation) -> bool {
        let OpId {
            node,
            boot,
            sequence,
        } = operation.id;
        let (known, answered) = match self.state.sessions.get(&node) {
            Some(session) if session.boot == boot => (boot, session.answered_below),
            Some(session) => (session.boot, 0),
            None => (0, 0),
        };
        boot.saturating_sub(known) <= SESSION_STEP_MAX
            && operation.answered_below <= sequence
            && operation.answered_below.saturating_sub(answered) <= SESSION_STEP_MAX
    }

    /// The newest start of a node that an operation of its was applied of.
    pub fn newest_boot(&self, node: NodeId) -> Option<u64> {
        self.state.sessions.get(&node).map(|session| session.boot)
    }

    pub(super) fn record(&mut self, operation: OpId, decision: Decision) {
        self.change_session(operation.node, |session| {
            session.insert(operation.sequence, decision);
        });
    }

    /// The session that `operation` belongs to: none if it is of another boot.
    pub(super) fn session_of(&self, operation: OpId) -> Option<&Session> {
        let session = self.state.sessions.get(&operation.node)?;
        (session.boot == operation.boot).then_some(session)
    }

    /// A node's first boot, or its next: the callers of the one before are gone with their sockets.
    fn open_session(&mut self, node: NodeId, boot: u64) {
        let mut session = Session::new(boot);
        if let Some(before) = self.state.sessions.get(&node) {
            session.detachments = before.detachments + 1;
            session.detached_ms = self.now_ms();
            self.index.ties.detach(node, session.detachments);
        }
        let sessions = Arc::make_mut(&mut self.state.sessions);
        sessions.insert(node, Arc::new(session));
        self.touched.insert(RecordKey::Session(node));
    }

    pub(super) fn change_session(&mut self, node: NodeId, change: impl FnOnce(&mut Session)) {
        let sessions = Arc::make_mut(&mut self.state.sessions);
        if let Some(session) = sessions.get_mut(&node) {
            change(Arc::make_mut(session));
            self.touched.insert(RecordKey::Session(node));
        }
    }
}
