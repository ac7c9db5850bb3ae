//! Callers that are gone: hung up, or on a node that was taken for dead.

use super::hold::acquire_id;
use super::{Entry, LockTable};
use crate::command::{Attachment, NodeId, OpId};
use crate::limits::{ATTACHMENTS_PER_WAITER_MAX, DETACHED_MS, OPEN_OPERATIONS_MAX};
#[cfg(evermind_mutants)]
use crate::mutant::{self, Mutant};
use crate::names::Resource;
use crate::outcome::{Decision, Outcome};
use crate::queue::Attached;

impl LockTable {
    /// Ties one acquire and its wait no longer together. Without any tie, the place is kept until
    /// `ends_ms`. `may_return`: its node may only be cut off. Returned is the detached acquire that there
    /// is no room for any more.
    pub(super) fn detach(
        &mut self,
        operation: OpId,
        may_return: bool,
        ends_ms: u64,
    ) -> Option<Attached> {
        let (resource, place) = self.index.ties.remove(operation)?;
        let mut detached = false;
        let (mut forgotten, mut displaced) = (None, None);
        self.change_lock(&resource, |lock| {
            lock.queue.change(place, |waiter| {
                let at = waiter
                    .attached
                    .iter()
                    .position(|a| a.operation == operation);
                let gone = at.map(|at| waiter.attached.remove(at));
                if may_return {
                    if waiter.detached.len() >= ATTACHMENTS_PER_WAITER_MAX {
                        displaced = Some(waiter.detached.remove(0));
                    }
                    waiter.detached.extend(gone);
                } else {
                    forgotten = gone;
                }
                detached = waiter.attached.is_empty();
                waiter.place_ends_ms = detached.then_some(ends_ms);
            });
        });
        if may_return {
            let wait = (resource.clone(), place);
            self.index.ties.set_detached(operation, wait);
        }
        if let Some(gone) = forgotten.as_ref().or(displaced.as_ref()) {
            let caller = (gone.caller, gone.operation);
            self.index.accounts.callers.remove(&caller);
            self.index.ties.remove(gone.operation);
        }
        if detached {
            let places = &mut self.index.deadlines.places;
            places.insert((ends_ms, place), resource);
        }
        displaced
    }

    /// A node was taken for dead: all that it has attached is over, and counts as detached since this
    /// entry. Costs the same however much that is; the waits learn of it in pieces.
    pub(super) fn detach_node(&mut self, node: NodeId, boot: u64) -> Outcome {
        let Some(session) = self.state.sessions.get(&node) else {
            return Outcome::Done;
        };
        // What an earlier boot had attached was over when the next began.
        let stands = |(of, _): (NodeId, u64)| of == node;
        if boot >= session.boot && self.index.ties.nodes().any(stands) {
            let detachments = session.detachments + 1;
            let detached_ms = self.now_ms();
            self.change_session(node, |session| {
                session.detachments = detachments;
                session.detached_ms = detached_ms;
            });
            self.index.ties.detach(node, detachments);
        }
        Outcome::Done
    }

    /// The caller of an acquire hung up before its answer was handed to a socket.
    pub(super) fn abandon(&mut self, entry: &mut Entry<'_>, attachment: &Attachment) -> Outcome {
        let operation = attachment.operation;
        self.forestall(entry.log_index, operation);
        self.catch_up_attachment(entry, &attachment.resource, operation);
        if self.index.ties.get(operation).is_some() {
            let ends_ms = self.now_ms().saturating_add(DETACHED_MS);
            self.detach(operation, false, ends_ms);
            return Outcome::Done;
        }
        if let Some(place) = self.detached_from(&attachment.resource, operation) {
            let mut gone = None;
            self.change_lock(&attachment.resource, |lock| {
                lock.queue.change(place, |waiter| {
                    let mut detached = waiter.detached.iter();
                    let at = detached.position(|a| a.operation == operation);
                    gone = at.map(|at| waiter.detached.remove(at));
                });
            });
            if let Some(gone) = gone {
                let caller = (gone.caller, operation);
                self.index.accounts.callers.remove(&caller);
                self.index.ties.remove(operation);
            }
            return Outcome::Done;
        }
        let lock = self.state.locks.get(&attachment.resource);
        // By the operation, not by the holder's name: a repeated request whose uuid was left out
        // stands in line under the name that its first was given.
        let grant = lock.and_then(|lock| lock.grants.current());
        #[cfg(evermind_mutants)]
        if mutant::is(Mutant::HangUpEndsRetriedGrant)
            && let Some(grant) = grant.filter(|grant| grant.holder == attachment.holder)
        {
            let token = grant.fencing_token;
            self.end_grant(entry, &attachment.resource, token);
            return Outcome::Done;
        }
        let newest = grant.and_then(|grant| grant.newest.as_ref().map(|newest| (grant, newest)));
        let Some((grant, newest)) = newest.filter(|(_, n)| n.operation() == operation) else {
            return Outcome::Done;
        };
        #[cfg(evermind_mutants)]
        if mutant::is(Mutant::UntoldGrantKept) {
            return Outcome::Done;
        }
        let token = grant.fencing_token;
        if let Some(key) = &newest.idempotency {
            let id = acquire_id(&attachment.resource, key);
            self.give_credit(&id, token);
        }
        self.end_grant(entry, &attachment.resource, token);
        Outcome::Done
    }

    /// Sees to it that an abandoned acquire which is still on its way to the log takes no effect
    /// when it gets there.
    fn forestall(&mut self, log_index: u64, operation: OpId) {
        let Some(session) = self.session_of(operation) else {
            return;
        };
        let (below, sequence) = (session.answered_below, operation.sequence);
        let open = sequence >= below && sequence - below < OPEN_OPERATIONS_MAX;
        if open && session.get(sequence).is_none() {
            let outcome = Outcome::Stale;
            self.record(operation, Decision { log_index, outcome });
        }
    }

    /// The caller of an acquire is still there although its node was taken for dead. Without effect
    /// if it hung up since, or if the wait is over.
    pub(super) fn reattach(&mut self, entry: &mut Entry<'_>, attachment: &Attachment) -> Outcome {
        let resource = &attachment.resource;
        let operation = attachment.operation;
        self.catch_up_attachment(entry, resource, operation);
        let free = self.is_free(resource);
        let Some(place) = self.detached_from(resource, operation) else {
            return Outcome::Done;
        };
        let lock = self.state.locks.get(resource);
        let Some(waiter) = lock.and_then(|lock| lock.queue.at(place)) else {
            return Outcome::Done;
        };
        let mut detached = waiter.detached.iter();
        let Some(mut attached) = detached.find(|a| a.operation == operation).cloned() else {
            return Outcome::Done;
        };
        attached.generation = self.generation(operation.node);
        if waiter.attached.len() >= ATTACHMENTS_PER_WAITER_MAX
            || (free && self.lease_limit(resource).is_some())
        {
            return Outcome::Done;
        }
        self.attach_at(resource, place, attached, |_| {});
        if free {
            self.hand_over(entry, resource, None);
        }
        Outcome::Done
    }

    /// The place of the waiter of this resource that an acquire was detached from, if it may still
    /// come back.
    fn detached_from(&self, resource: &Resource, operation: OpId) -> Option<u64> {
        let (of, place) = self.index.ties.detached(operation)?;
        (of == resource).then_some(*place)
    }
}
