//! Taking a lock, or joining its queue.

use super::licences::Caller;
use super::named::{Named, Recall};
use super::resume::Before;
use super::{Entry, LockTable, refused};
use crate::command::{Acquire, Idempotency, KeyId, OpId};
use crate::idempotency::{Answer, Endpoint};
use crate::limits::{
    LEASE_MS_MAX, LOCKS_MAX, LOCKS_PER_IDENTITY_MAX, RETRY_ATTEMPTS_MAX, WAITERS_PER_IDENTITY_MAX,
    WAITERS_PER_RESOURCE_MAX, WINDOW_MS_MAX,
};
#[cfg(evermind_mutants)]
use crate::mutant::{self, Mutant};
use crate::names::{Holder, IdempotencyKey, Resource};
use crate::outcome::{Granted, Limit, Outcome, Refusal};
use crate::queue::{Attached, Waiter};

/// An acquire whose caller is known.
pub(super) struct Asked {
    pub(super) operation: OpId,
    pub(super) caller: Caller,
    pub(super) resource: Resource,
    pub(super) holder: Holder,
    pub(super) idempotency: Option<IdempotencyKey>,
    /// Attempts that were paid for when it came before.
    pub(super) credit: u32,
    /// What the wait is to be from now on; a replay leaves it as it is.
    pub(super) terms: Option<Terms>,
    /// What it has behind it, if it goes on with a wait whose place was dropped.
    pub(super) before: Before,
}

/// What an acquire asks for beside the lock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) lease_ms: u64,
    pub(super) window_ms: u64,
    pub(super) retry_attempts: u32,
}

impl Terms {
    /// Within the bounds, whatever the command says.
    pub(super) fn of(acquire: &Acquire) -> Self {
        Self {
            lease_ms: acquire.lease_ms.clamp(1, LEASE_MS_MAX),
            window_ms: acquire.window_ms.min(WINDOW_MS_MAX),
            retry_attempts: acquire.retry_attempts.min(RETRY_ATTEMPTS_MAX),
        }
    }
}

impl LockTable {
    pub(super) fn acquire(
        &mut self,
        entry: &mut Entry<'_>,
        operation: OpId,
        acquire: Acquire,
    ) -> Outcome {
        self.acquire_after(entry, operation, acquire, Before::default())
    }

    /// Takes a lock, or joins its queue; `before` is what the same acquire has behind it.
    pub(super) fn acquire_after(
        &mut self,
        entry: &mut Entry<'_>,
        operation: OpId,
        acquire: Acquire,
        before: Before,
    ) -> Outcome {
        self.catch_up_for(entry, acquire.caller, &acquire.key, &acquire.holder);
        let name = acquire.idempotency.as_ref();
        let (caller, recall) = match self.recall_acquire(entry, acquire.caller, name) {
            Ok(recall) => recall,
            Err(refusal) => return refused(refusal),
        };
        let idempotency = acquire.idempotency.as_ref().map(|named| named.key.clone());
        let named = match recall {
            Recall::Unnamed => None,
            Recall::New(named) => Some(named),
            Recall::Open(resource, holder) => {
                let asked = Asked {
                    operation,
                    caller,
                    resource,
                    holder,
                    idempotency,
                    credit: 0,
                    terms: None,
                    before,
                };
                return self.attach(entry, asked);
            }
            Recall::Answered(answer) => {
                #[cfg(evermind_mutants)]
                if mutant::is(Mutant::UsageCountedTwice) {
                    self.charge(caller.licence, 1);
                }
                return self.replay_acquire(answer, before);
            }
        };
        let resource = Resource {
            identity: caller.identity.clone(),
            key: acquire.key.clone(),
        };
        let credit = named.as_ref().map_or(0, Named::credit).max(before.attempts);
        let asked = Asked {
            operation,
            caller,
            resource: resource.clone(),
            holder: acquire.holder.clone(),
            idempotency,
            credit,
            terms: Some(before.rest(Terms::of(&acquire))),
            before,
        };
        let outcome = self.acquire_anew(entry, asked, &acquire);
        if let Some(named) = named {
            self.remember_acquire(named, resource, acquire.holder, &outcome);
        }
        outcome
    }

    /// What is known of an acquire's name, what is over of its wait ended before.
    fn recall_acquire(
        &mut self,
        entry: &mut Entry<'_>,
        caller: KeyId,
        name: Option<&Idempotency>,
    ) -> Result<(Caller, Recall), Refusal> {
        let recalled = self.recall(caller, Endpoint::Acquire, name)?;
        let (_, Recall::Open(resource, holder)) = &recalled else {
            return Ok(recalled);
        };
        if !self.is_behind() {
            return Ok(recalled);
        }
        // Its uuid may be another than this request's: one that was left out is drawn anew.
        self.catch_up(entry, resource, holder);
        self.recall(caller, Endpoint::Acquire, name)
    }

    fn acquire_anew(&mut self, entry: &mut Entry<'_>, asked: Asked, acquire: &Acquire) -> Outcome {
        let credit = asked.credit;
        let lock = self.state.locks.get(&asked.resource);
        if let Some(grant) = lock.and_then(|lock| lock.grants.of(&asked.holder)) {
            let granted = Granted {
                holder: grant.holder.clone(),
                fencing_token: grant.fencing_token,
                expires_in_ms: grant.expires_at_ms - self.now_ms(),
                waited_ms: asked.before.waited_ms,
                attempts: asked.before.attempts.max(1),
            };
            if let Err(refusal) = self.allows(asked.caller.licence, credit) {
                return refused(refusal);
            }
            self.charge(asked.caller.licence, 1_u32.saturating_sub(credit));
            self.untie(&asked.resource, &asked.holder);
            return Outcome::Granted(granted);
        }
        if lock.is_some_and(|lock| lock.queue.of(&asked.holder).is_some()) {
            return self.attach(entry, asked);
        }
        if let Err(refusal) = self.allows(asked.caller.licence, credit) {
            return refused(refusal);
        }
        // Free, and about to be granted to those who came before: nobody who comes now overtakes them.
        let (held, waiting) = lock.map_or((false, 0), |lock| {
            let held = !lock.grants.is_empty() || lock.queue.first_attached().is_some();
            (held, lock.queue.len())
        });
        let Terms {
            lease_ms,
            window_ms,
            retry_attempts,
        } = Terms::of(acquire);
        let waiter = Waiter {
            holder: asked.holder,
            licence: asked.caller.licence,
            place: self.state.meta.next_place,
            joined_ms: asked.before.joined_ms(self.now_ms()),
            window_ms,
            retry_attempts,
            polled: 0,
            credit: credit.saturating_sub(1),
            lease_ms,
            fifo: acquire.fifo,
            attached: vec![Attached {
                operation: asked.operation,
                caller: asked.caller.key,
                since_ms: asked.before.joined_ms(self.now_ms()),
                generation: self.generation(asked.operation.node),
                idempotency: asked.idempotency.clone(),
            }],
            detached: Vec::new(),
            place_ends_ms: None,
            records: Vec::from_iter(asked.idempotency),
        };
        if !held {
            if let Some(limit) = self.lease_limit(&asked.resource) {
                return refused(Refusal::LimitReached(limit));
            }
            self.charge(waiter.licence, 1_u32.saturating_sub(credit));
            let granted = self.grant(entry, &asked.resource, &waiter, Some(asked.operation));
            return granted.map_or(Outcome::Stale, Outcome::Granted);
        }
        if waiter.window_ms == 0 {
            let attempts = waiter.attempts_max();
            self.charge(waiter.licence, attempts.saturating_sub(credit));
            return self.held(&asked.resource, asked.before.reason(), attempts);
        }
        let limit = if waiting >= WAITERS_PER_RESOURCE_MAX {
            Some(Limit::WaitersPerResource)
        } else if self.counts(&asked.resource.identity).waiters >= WAITERS_PER_IDENTITY_MAX {
            Some(Limit::WaitersPerIdentity)
        } else {
            None
        };
        if let Some(limit) = limit {
            return refused(Refusal::LimitReached(limit));
        }
        self.charge(waiter.licence, 1_u32.saturating_sub(credit));
        self.join(&asked.resource, waiter);
        Outcome::Queued
    }

    /// The bound that one more lease would pass.
    pub(super) fn lease_limit(&self, resource: &Resource) -> Option<Limit> {
        // What is about to be granted has its lease already; so has what is over and not yet ended.
        let to_come = self.index.to_grant.len();
        if self.index.total.leases + to_come >= LOCKS_MAX {
            Some(Limit::Locks)
        } else if self.counts(&resource.identity).leases + to_come >= LOCKS_PER_IDENTITY_MAX {
            Some(Limit::LocksPerIdentity)
        } else {
            None
        }
    }

    /// A repetition changes nothing and reports the present.
    fn replay_acquire(&mut self, answer: Answer, before: Before) -> Outcome {
        let (resource, holder, fencing_token, attempts) = match answer {
            Answer::Granted {
                resource,
                holder,
                fencing_token,
                attempts,
            } => (resource, holder, fencing_token, attempts),
            Answer::Refused(refusal) => return refused(refusal),
            Answer::Extended { .. } | Answer::Released => return Outcome::Stale,
        };
        let Some(expires_in_ms) = self.left_ms(&resource, fencing_token) else {
            return refused(Refusal::GrantEnded { attempts });
        };
        self.untie(&resource, &holder);
        Outcome::Granted(Granted {
            holder,
            fencing_token,
            expires_in_ms,
            waited_ms: before.waited_ms,
            attempts,
        })
    }

    /// More than one request is told of this grant, and any of them may be the one that goes on
    /// with it: from now on no hang-up gives it back.
    fn untie(&mut self, resource: &Resource, holder: &Holder) {
        self.change_lock(resource, |lock| {
            if let Some(grant) = lock.grants.of_mut(holder) {
                grant.newest = None;
            }
        });
    }
}
