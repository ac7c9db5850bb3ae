//! Standing in line: joining, attaching, detaching, leaving.

use super::acquire::{Asked, Terms};
use super::{Entry, LockTable, refused};
use crate::command::{Attachment, NodeId, OpId};
use crate::idempotency::{Answer, Endpoint, IdempotencyId};
use crate::limits::{
    ATTACHMENTS_PER_WAITER_MAX, DETACHED_MS, IDEMPOTENCY_KEYS_PER_WAITER_MAX, OPEN_OPERATIONS_MAX,
};
#[cfg(evermind_mutants)]
use crate::mutant::{self, Mutant};
use crate::names::{Holder, Resource};
use crate::outcome::{Decision, Event, HeldReason, Limit, Outcome, Refusal};
use crate::queue::{Attached, Waiter};
use crate::record::RecordKey;

impl LockTable {
    /// Puts a new waiter at the end of the line.
    pub(super) fn join(&mut self, resource: &Resource, waiter: Waiter) {
        let place = waiter.place;
        self.state.meta.next_place += 1;
        self.touched.insert(RecordKey::Meta);
        self.count(&resource.identity, |counts| counts.waiters += 1);
        for attached in &waiter.attached {
            let wait = (resource.clone(), place);
            let caller = (attached.caller, attached.operation);
            self.index.accounts.callers.insert(caller, wait.clone());
            self.index.attached.insert(attached.operation, wait);
        }
        let at = (waiter.ends_ms(), place);
        self.index.deadlines.waits.insert(at, resource.clone());
        self.change_lock(resource, |lock| lock.queue.join(waiter));
    }

    /// Takes a waiter out of the line, with all that points to it but its idempotency records.
    pub(super) fn leave(&mut self, resource: &Resource, place: u64) -> Option<Waiter> {
        let waiter = self.change_lock(resource, |lock| lock.queue.remove(place))?;
        self.count(&resource.identity, |counts| counts.waiters -= 1);
        for attached in waiter.callers() {
            let caller = (attached.caller, attached.operation);
            self.index.accounts.callers.remove(&caller);
            self.index.attached.remove(&attached.operation);
        }
        let deadlines = &mut self.index.deadlines;
        deadlines.waits.remove(&(waiter.ends_ms(), place));
        if let Some(ends_ms) = waiter.place_ends_ms {
            deadlines.places.remove(&(ends_ms, place));
        }
        Some(waiter)
    }

    /// Attaches one more acquire to the wait of the same uuid. A detached waiter is back at its old
    /// place, and is granted at once if the resource is free.
    pub(super) fn attach(&mut self, entry: &mut Entry<'_>, asked: Asked) -> Outcome {
        let Some(waiter) = self.waiter(&asked.resource, &asked.holder) else {
            // An open record has its waiter: see the table's invariants.
            return Outcome::Stale;
        };
        let named_anew = asked
            .idempotency
            .as_ref()
            .filter(|key| !waiter.records.contains(key));
        let limit = if waiter.attached.len() >= ATTACHMENTS_PER_WAITER_MAX {
            Some(Limit::AttachmentsPerWaiter)
        } else if named_anew.is_some() && waiter.records.len() >= IDEMPOTENCY_KEYS_PER_WAITER_MAX {
            Some(Limit::IdempotencyKeys)
        } else if self.is_free(&asked.resource) {
            self.lease_limit(&asked.resource)
        } else {
            None
        };
        if let Some(limit) = limit {
            return refused(Refusal::LimitReached(limit));
        }
        let (place, named_anew) = (waiter.place, named_anew.cloned());
        if let Some(terms) = asked.terms {
            if terms.window_ms == 0 && !self.is_free(&asked.resource) {
                let attempts = 1 + terms.retry_attempts;
                if let Err(refusal) = self.allows(asked.caller.licence, asked.credit) {
                    return refused(refusal);
                }
                self.charge(asked.caller.licence, attempts.saturating_sub(asked.credit));
                return self.held(&asked.resource, HeldReason::NoWait, attempts);
            }
            self.renew(&asked.resource, place, terms);
        }
        let attached = Attached {
            operation: asked.operation,
            caller: asked.caller.key,
            since_ms: asked.before.joined_ms(self.now_ms()),
            idempotency: asked.idempotency,
        };
        self.attach_at(&asked.resource, place, attached, |waiter| {
            waiter.records.extend(named_anew);
        });
        if self.is_free(&asked.resource)
            && let Some(granted) = self.hand_over(entry, &asked.resource, Some(asked.operation))
        {
            return Outcome::Granted(granted);
        }
        Outcome::Queued
    }

    /// From now on the wait is what its newest request asks for: it is the one that knows how long
    /// its caller goes on waiting.
    fn renew(&mut self, resource: &Resource, place: u64, terms: Terms) {
        let now_ms = self.now_ms();
        let (mut before_ms, mut after_ms) = (0, 0);
        self.change_lock(resource, |lock| {
            lock.queue.change(place, |waiter| {
                before_ms = waiter.ends_ms();
                waiter.polled = waiter.attempts(now_ms) - 1;
                waiter.window_ms = (now_ms - waiter.joined_ms) + terms.window_ms;
                waiter.retry_attempts = terms.retry_attempts;
                waiter.lease_ms = terms.lease_ms;
                after_ms = waiter.ends_ms();
            });
        });
        let waits = &mut self.index.deadlines.waits;
        waits.remove(&(before_ms, place));
        waits.insert((after_ms, place), resource.clone());
    }

    fn attach_at(
        &mut self,
        resource: &Resource,
        place: u64,
        attached: Attached,
        change: impl FnOnce(&mut Waiter),
    ) {
        let wait = (resource.clone(), place);
        let caller = (attached.caller, attached.operation);
        self.index.accounts.callers.insert(caller, wait.clone());
        self.index.attached.insert(attached.operation, wait);
        let mut place_ends_ms = None;
        self.change_lock(resource, |lock| {
            lock.queue.change(place, |waiter| {
                waiter
                    .detached
                    .retain(|a| a.operation != attached.operation);
                waiter.attached.push(attached);
                place_ends_ms = waiter.place_ends_ms.take();
                change(waiter);
            });
        });
        if let Some(ends_ms) = place_ends_ms {
            self.index.deadlines.places.remove(&(ends_ms, place));
        }
    }

    /// Ties one acquire and its wait no longer together. Without any tie, the place is kept for
    /// [`DETACHED_MS`]. `may_return`: its node may only be cut off.
    fn detach(&mut self, operation: OpId, may_return: bool) {
        let Some((resource, place)) = self.index.attached.remove(&operation) else {
            return;
        };
        let ends_ms = self.now_ms().saturating_add(DETACHED_MS);
        let mut detached = false;
        let mut forgotten = None;
        self.change_lock(&resource, |lock| {
            lock.queue.change(place, |waiter| {
                let at = waiter
                    .attached
                    .iter()
                    .position(|a| a.operation == operation);
                let gone = at.map(|at| waiter.attached.remove(at));
                if may_return {
                    if waiter.detached.len() >= ATTACHMENTS_PER_WAITER_MAX {
                        forgotten = Some(waiter.detached.remove(0));
                    }
                    waiter.detached.extend(gone);
                } else {
                    forgotten = gone;
                }
                detached = waiter.attached.is_empty();
                waiter.place_ends_ms = detached.then_some(ends_ms);
            });
        });
        if let Some(gone) = forgotten {
            let caller = (gone.caller, gone.operation);
            self.index.accounts.callers.remove(&caller);
        }
        if detached {
            let places = &mut self.index.deadlines.places;
            places.insert((ends_ms, place), resource);
        }
    }

    pub(super) fn detach_node(
        &mut self,
        entry: &mut Entry<'_>,
        node: NodeId,
        boot: u64,
    ) -> Outcome {
        let last = OpId {
            node,
            boot,
            sequence: u64::MAX,
        };
        self.detach_until(entry, last, true);
        Outcome::Done
    }

    /// Detaches what earlier boots of a node had attached, for good.
    pub(super) fn detach_before(&mut self, entry: &mut Entry<'_>, node: NodeId, boot: u64) {
        let Some(boot) = boot.checked_sub(1) else {
            return;
        };
        let last = OpId {
            node,
            boot,
            sequence: u64::MAX,
        };
        self.detach_until(entry, last, false);
    }

    fn detach_until(&mut self, entry: &mut Entry<'_>, last: OpId, may_return: bool) {
        let first = OpId {
            node: last.node,
            boot: 0,
            sequence: 0,
        };
        while let Some((operation, _)) = self.index.attached.range(first..=last).next() {
            let operation = *operation;
            self.detach(operation, may_return);
            entry.events.push(Event::Detached { operation });
        }
    }

    /// The caller of an acquire hung up before its answer was handed to a socket.
    pub(super) fn abandon(&mut self, entry: &mut Entry<'_>, attachment: &Attachment) -> Outcome {
        let operation = attachment.operation;
        self.forestall(entry.log_index, operation);
        if self.index.attached.contains_key(&operation) {
            self.detach(operation, false);
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
        let token = grant.fencing_token;
        if let Some(key) = &newest.idempotency {
            let id = IdempotencyId {
                identity: attachment.resource.identity.clone(),
                endpoint: Endpoint::Acquire,
                key: key.as_ref().clone(),
            };
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
        let free = self.is_free(resource);
        let operation = attachment.operation;
        let Some(place) = self.detached_from(resource, operation) else {
            return Outcome::Done;
        };
        let lock = self.state.locks.get(resource);
        let Some(waiter) = lock.and_then(|lock| lock.queue.at(place)) else {
            return Outcome::Done;
        };
        let mut detached = waiter.detached.iter();
        let Some(attached) = detached.find(|a| a.operation == operation).cloned() else {
            return Outcome::Done;
        };
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

    /// Ends a wait without a grant.
    pub(super) fn refuse_wait(
        &mut self,
        entry: &mut Entry<'_>,
        resource: &Resource,
        place: u64,
        reason: HeldReason,
    ) {
        let Some(waiter) = self.leave(resource, place) else {
            return;
        };
        let attempts = match reason {
            HeldReason::WindowPassed => waiter.attempts_max(),
            _ => waiter.attempts(self.now_ms()),
        };
        self.charge_rest(&waiter, attempts);
        let outcome = self.held(resource, reason, attempts);
        for attached in waiter.callers() {
            entry.events.push(Event::WaitEnded {
                operation: attached.operation,
                resource: resource.clone(),
                outcome: outcome.clone(),
            });
        }
        if let Outcome::Refused(refusal) = outcome {
            self.settle_all(resource, &waiter, &Answer::Refused(refusal));
        }
    }

    /// A detached waiter's time is up. Its callers are gone, or their node is cut off: it tells them
    /// once it is back. What they had named starts anew when they come again.
    pub(super) fn drop_place(&mut self, entry: &mut Entry<'_>, resource: &Resource, place: u64) {
        let Some(waiter) = self.leave(resource, place) else {
            return;
        };
        let attempts = waiter.attempts(self.now_ms());
        self.charge_rest(&waiter, attempts);
        let outcome = self.held(resource, HeldReason::Detached, attempts);
        for detached in &waiter.detached {
            entry.events.push(Event::WaitEnded {
                operation: detached.operation,
                resource: resource.clone(),
                outcome: outcome.clone(),
            });
        }
        for key in waiter.records {
            let id = IdempotencyId {
                identity: resource.identity.clone(),
                endpoint: Endpoint::Acquire,
                key,
            };
            self.forget(&id);
        }
    }

    /// The place of the waiter that an acquire was detached from, if it may still come back. Reads
    /// the whole line, which is for nodes that were taken for dead alone.
    pub(super) fn detached_from(&self, resource: &Resource, operation: OpId) -> Option<u64> {
        let queue = &self.state.locks.get(resource)?.queue;
        let waiter = queue
            .iter()
            .find(|waiter| waiter.detached.iter().any(|a| a.operation == operation));
        waiter.map(|waiter| waiter.place)
    }

    pub(super) fn waiter(&self, resource: &Resource, holder: &Holder) -> Option<&Waiter> {
        self.state.locks.get(resource)?.queue.of(holder)
    }

    fn is_free(&self, resource: &Resource) -> bool {
        let lock = self.state.locks.get(resource);
        lock.is_none_or(|lock| lock.grants.is_empty())
    }
}
