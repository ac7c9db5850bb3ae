//! Taking a lock, or joining its queue.

use super::named::Recall;
use super::{Entry, LockTable, refused};
use crate::command::{Acquire, OpId};
use crate::grant::Newest;
use crate::idempotency::{Answer, Endpoint};
use crate::limits::{
    LEASE_MS_MAX, LOCKS_MAX, LOCKS_PER_IDENTITY_MAX, RETRY_ATTEMPTS_MAX, WAITERS_PER_IDENTITY_MAX,
    WAITERS_PER_RESOURCE_MAX, WINDOW_MS_MAX,
};
use crate::names::{Holder, IdempotencyKey, Resource};
use crate::outcome::{Granted, HeldReason, Limit, Outcome, Refusal};
use crate::queue::{Attached, Waiter};

/// An acquire whose caller is known.
pub(super) struct Asked {
    pub(super) operation: OpId,
    pub(super) resource: Resource,
    pub(super) holder: Holder,
    pub(super) idempotency: Option<IdempotencyKey>,
    /// What the lease is to be; a replay leaves it as it is.
    pub(super) lease_ms: Option<u64>,
}

impl LockTable {
    pub(super) fn acquire(
        &mut self,
        entry: &mut Entry<'_>,
        operation: OpId,
        acquire: Acquire,
    ) -> Outcome {
        let (identity, recall) = match self.recall(
            acquire.caller,
            Endpoint::Acquire,
            acquire.idempotency.as_ref(),
        ) {
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
                    resource,
                    holder,
                    idempotency,
                    lease_ms: None,
                };
                return self.attach(entry, asked);
            }
            Recall::Answered(answer) => return self.replay_acquire(operation, idempotency, answer),
        };
        let resource = Resource {
            identity,
            key: acquire.key.clone(),
        };
        let asked = Asked {
            operation,
            resource: resource.clone(),
            holder: acquire.holder.clone(),
            idempotency,
            lease_ms: Some(acquire.lease_ms.clamp(1, LEASE_MS_MAX)),
        };
        let outcome = self.acquire_anew(entry, asked, &acquire);
        if let Some(named) = named {
            self.remember_acquire(named, resource, acquire.holder, &outcome);
        }
        outcome
    }

    fn acquire_anew(&mut self, entry: &mut Entry<'_>, asked: Asked, acquire: &Acquire) -> Outcome {
        let lock = self.state.locks.get(&asked.resource);
        if let Some(grant) = lock.and_then(|lock| lock.grants.of(&asked.holder)) {
            let granted = Granted {
                holder: grant.holder.clone(),
                fencing_token: grant.fencing_token,
                expires_in_ms: grant.expires_at_ms - self.now_ms(),
                waited_ms: 0,
                attempts: 1,
            };
            self.renew_newest(&asked);
            return Outcome::Granted(granted);
        }
        if lock.is_some_and(|lock| lock.queue.of(&asked.holder).is_some()) {
            return self.attach(entry, asked);
        }
        let (held, waiting) = lock.map_or((false, 0), |lock| {
            (!lock.grants.is_empty(), lock.queue.len())
        });
        let retry_attempts = acquire.retry_attempts.min(RETRY_ATTEMPTS_MAX);
        let waiter = Waiter {
            holder: asked.holder,
            place: self.state.meta.next_place,
            joined_ms: self.now_ms(),
            window_ms: acquire.window_ms.min(WINDOW_MS_MAX),
            retry_attempts,
            lease_ms: asked.lease_ms.unwrap_or(1),
            fifo: acquire.fifo,
            attached: vec![Attached {
                operation: asked.operation,
                since_ms: self.now_ms(),
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
            let granted = self.grant(entry, &asked.resource, &waiter, Some(asked.operation));
            return granted.map_or(Outcome::Stale, Outcome::Granted);
        }
        if waiter.window_ms == 0 {
            return self.held(&asked.resource, HeldReason::NoWait, waiter.attempts_max());
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
        self.join(&asked.resource, waiter);
        Outcome::Queued
    }

    /// The bound that one more lease would pass.
    pub(super) fn lease_limit(&self, resource: &Resource) -> Option<Limit> {
        if self.index.total.leases >= LOCKS_MAX {
            Some(Limit::Locks)
        } else if self.counts(&resource.identity).leases >= LOCKS_PER_IDENTITY_MAX {
            Some(Limit::LocksPerIdentity)
        } else {
            None
        }
    }

    /// A repetition changes nothing and reports the present. Only the tie to the grant moves: an
    /// earlier attachment's hang-up may no longer give back what this one is told it has.
    fn replay_acquire(
        &mut self,
        operation: OpId,
        idempotency: Option<IdempotencyKey>,
        answer: Answer,
    ) -> Outcome {
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
            return refused(Refusal::GrantEnded);
        };
        let asked = Asked {
            operation,
            resource,
            holder,
            idempotency,
            lease_ms: None,
        };
        self.renew_newest(&asked);
        Outcome::Granted(Granted {
            holder: asked.holder,
            fencing_token,
            expires_in_ms,
            waited_ms: 0,
            attempts,
        })
    }

    /// Ties the grant to the acquire that is told of it now.
    fn renew_newest(&mut self, asked: &Asked) {
        let newest = Newest::new(asked.operation, asked.idempotency.clone());
        self.change_lock(&asked.resource, |lock| {
            if let Some(grant) = lock.grants.of_mut(&asked.holder) {
                grant.newest = newest;
            }
        });
    }
}
