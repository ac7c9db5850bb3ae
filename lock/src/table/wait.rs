//! Standing in line: joining, attaching, detaching, leaving.

use super::acquire::{Asked, Terms};
use super::hold::acquire_id;
use super::{Entry, LockTable, refused};
use crate::command::NodeId;
use crate::idempotency::Answer;
use crate::limits::{ATTACHMENTS_PER_WAITER_MAX, IDEMPOTENCY_KEYS_PER_WAITER_MAX};
use crate::names::{Holder, Resource};
use crate::outcome::{Event, HeldReason, Limit, Outcome, Refusal};
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
            let generation = attached.generation;
            self.index.ties.insert(attached.operation, generation, wait);
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
            self.index.ties.remove(attached.operation);
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
                return self.held(&asked.resource, asked.before.reason(), attempts);
            }
            if !asked.before.is_resumed() {
                self.renew(&asked.resource, place, terms);
            }
        }
        let attached = Attached {
            operation: asked.operation,
            caller: asked.caller.key,
            since_ms: asked.before.joined_ms(self.now_ms()),
            generation: self.generation(asked.operation.node),
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

    /// From now on the wait is what its newest request asks for. Its node answers for it when its
    /// window is over, so an older request that is resumed changes nothing: it would be kept waiting
    /// past that.
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

    /// How often the callers of a node were detached.
    pub(super) fn generation(&self, node: NodeId) -> u64 {
        let session = self.state.sessions.get(&node);
        session.map_or(0, |session| session.detachments)
    }

    /// Adds an attachment, of this node's newest generation.
    pub(super) fn attach_at(
        &mut self,
        resource: &Resource,
        place: u64,
        attached: Attached,
        change: impl FnOnce(&mut Waiter),
    ) {
        let wait = (resource.clone(), place);
        let caller = (attached.caller, attached.operation);
        self.index.accounts.callers.insert(caller, wait.clone());
        let generation = attached.generation;
        self.index.ties.insert(attached.operation, generation, wait);
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
            entry.answer(Event::WaitEnded {
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
        // As at its end, however late it is dropped.
        let ended_ms = waiter.place_ends_ms.unwrap_or(self.now_ms());
        let attempts = waiter.attempts(ended_ms.min(self.now_ms()));
        self.charge_rest(&waiter, attempts);
        let outcome = self.held(resource, HeldReason::Detached, attempts);
        for detached in &waiter.detached {
            entry.answer(Event::WaitEnded {
                operation: detached.operation,
                resource: resource.clone(),
                outcome: outcome.clone(),
            });
        }
        for key in &waiter.records {
            self.forget(&acquire_id(resource, key));
        }
    }

    pub(super) fn waiter(&self, resource: &Resource, holder: &Holder) -> Option<&Waiter> {
        self.state.locks.get(resource)?.queue.of(holder)
    }

    pub(super) fn is_free(&self, resource: &Resource) -> bool {
        let lock = self.state.locks.get(resource);
        lock.is_none_or(|lock| lock.grants.is_empty())
    }
}
