//! What a holder does with its lock, and how a grant begins and ends.

use super::named::Recall;
use super::{Entry, LockTable, refused};
use crate::command::{Extend, OpId, Release};
use crate::grant::{Grant, Newest};
use crate::idempotency::{Answer, Endpoint, IdempotencyId};
use crate::limits::{FENCING_TOKEN_MAX, LEASE_MS_MAX};
#[cfg(evermind_mutants)]
use crate::mutant::{self, Mutant};
use crate::names::{Holder, IdempotencyKey, Resource};
use crate::outcome::{Current, Event, Granted, HeldReason, Outcome, Refusal};
use crate::queue::Waiter;
use crate::record::RecordKey;

impl LockTable {
    pub(super) fn extend(&mut self, entry: &mut Entry<'_>, extend: Extend) -> Outcome {
        #[cfg(evermind_mutants)]
        if mutant::is(Mutant::OverLeaseExtended)
            && let Some(outcome) = self.extend_over(&extend)
        {
            return outcome;
        }
        self.catch_up_for(entry, extend.caller, &extend.key, &extend.holder);
        let named = extend.idempotency.as_ref();
        let (identity, named) = match self.recall(extend.caller, Endpoint::Extend, named) {
            Err(refusal) => return refused(refusal),
            Ok((_, Recall::Answered(answer))) => {
                #[cfg(evermind_mutants)]
                if let Answer::Extended { resource, .. } = &answer
                    && mutant::is(Mutant::DoubleExtendOnRetry)
                {
                    let _ = self.extend_anew(resource, &extend.holder, extend.extend_by_ms);
                }
                return self.replay(answer);
            }
            Ok((caller, Recall::New(named))) => (caller.identity, Some(named)),
            Ok((caller, _)) => (caller.identity, None),
        };
        let resource = Resource {
            identity,
            key: extend.key,
        };
        match self.extend_anew(&resource, &extend.holder, extend.extend_by_ms) {
            Ok((fencing_token, expires_in_ms)) => {
                if let Some(named) = named {
                    let answer = Answer::Extended {
                        resource,
                        fencing_token,
                    };
                    self.remember(named, answer);
                }
                Outcome::Extended {
                    fencing_token,
                    expires_in_ms,
                }
            }
            Err(refusal) => {
                if let Some(named) = named {
                    self.remember_refusal(named, &refusal);
                }
                refused(refusal)
            }
        }
    }

    /// Token and what is left.
    pub(super) fn extend_anew(
        &mut self,
        resource: &Resource,
        holder: &Holder,
        by_ms: u64,
    ) -> Result<(u64, u64), Refusal> {
        let grant = self.held_by(resource, holder)?;
        let (token, before_ms) = (grant.fencing_token, grant.expires_at_ms);
        let expires_at_ms = before_ms.saturating_add(by_ms);
        if expires_at_ms - self.now_ms() > LEASE_MS_MAX {
            let left_ms = before_ms - self.now_ms();
            return Err(Refusal::ExtendPastLimit { left_ms });
        }
        #[cfg(evermind_mutants)]
        let unmarked = self.is_unmarked(resource);
        self.change_lock(resource, |lock| {
            if let Some(grant) = lock.grants.of_mut(holder) {
                grant.expires_at_ms = expires_at_ms;
                // It goes on with the lock: a hang-up of its acquire means nothing any more.
                grant.newest = None;
            }
        });
        #[cfg(evermind_mutants)]
        if unmarked && mutant::is(Mutant::ExtensionNotKept) {
            self.touched.forget_lock(resource);
        }
        Ok((token, expires_at_ms - self.now_ms()))
    }

    fn held_by(&self, resource: &Resource, holder: &Holder) -> Result<&Grant, Refusal> {
        let lock = self.state.locks.get(resource);
        let lock = lock.ok_or(Refusal::LockNotFound)?;
        if let Some(grant) = lock.grants.of(holder) {
            Ok(grant)
        } else if lock.grants.is_empty() && lock.queue.of(holder).is_none() {
            Err(Refusal::LockNotFound)
        } else {
            Err(Refusal::NotOwner)
        }
    }

    pub(super) fn release(&mut self, entry: &mut Entry<'_>, release: Release) -> Outcome {
        self.catch_up_for(entry, release.caller, &release.key, &release.holder);
        let named = release.idempotency.as_ref();
        let (identity, named) = match self.recall(release.caller, Endpoint::Release, named) {
            Err(refusal) => return refused(refusal),
            Ok((_, Recall::Answered(answer))) => return self.replay(answer),
            Ok((caller, Recall::New(named))) => (caller.identity, Some(named)),
            Ok((caller, _)) => (caller.identity, None),
        };
        let resource = Resource {
            identity,
            key: release.key,
        };
        match self.release_anew(entry, &resource, &release.holder) {
            Ok(()) => {
                if let Some(named) = named {
                    self.remember(named, Answer::Released);
                }
                Outcome::Released
            }
            Err(refusal) => {
                if let Some(named) = named {
                    self.remember_refusal(named, &refusal);
                }
                refused(refusal)
            }
        }
    }

    fn release_anew(
        &mut self,
        entry: &mut Entry<'_>,
        resource: &Resource,
        holder: &Holder,
    ) -> Result<(), Refusal> {
        #[cfg(evermind_mutants)]
        if mutant::is(Mutant::ReleaseOfAnothersLock)
            && let Some(token) = self.current_token(resource)
        {
            self.end_grant(entry, resource, token);
            return Ok(());
        }
        match self.held_by(resource, holder) {
            Ok(grant) => {
                let token = grant.fencing_token;
                self.end_grant(entry, resource, token);
                Ok(())
            }
            Err(refusal) => {
                let lock = self.state.locks.get(resource);
                let waiter = lock.and_then(|lock| lock.queue.of(holder));
                let place = waiter.ok_or(refusal)?.place;
                let reason = HeldReason::ReleasedWhileWaiting;
                self.refuse_wait(entry, resource, place, reason);
                Ok(())
            }
        }
    }

    /// Ends a grant, and hands the resource to the first in line that can be granted.
    pub(super) fn end_grant(&mut self, entry: &mut Entry<'_>, resource: &Resource, token: u64) {
        entry.spend();
        if self
            .change_lock(resource, |lock| lock.grants.remove(token))
            .is_none()
        {
            return;
        }
        self.count(&resource.identity, |counts| counts.leases -= 1);
        self.hand_over(entry, resource, None);
    }

    /// Grants a free resource to the first attached waiter that is not over, as long as the entry's
    /// piece lasts; the next entry goes on where it ends. Returned is what `answering` got; all others
    /// get an event.
    pub(super) fn hand_over(
        &mut self,
        entry: &mut Entry<'_>,
        resource: &Resource,
        answering: Option<OpId>,
    ) -> Option<Granted> {
        loop {
            let lock = self.state.locks.get(resource)?;
            if !lock.grants.is_empty() {
                return None;
            }
            let place = lock.queue.first_attached()?;
            if entry.left == 0 {
                return None;
            }
            let is_whole = self.is_whole(resource, place);
            #[cfg(evermind_mutants)]
            let is_whole = is_whole || mutant::is(Mutant::GrantToOverWait);
            if !is_whole {
                self.catch_up_wait(entry, resource, place);
                continue;
            }
            entry.spend();
            #[cfg(evermind_mutants)]
            let place = super::mutated::place(&lock.queue, place);
            let waiter = self.leave(resource, place)?;
            #[cfg(evermind_mutants)]
            if mutant::is(Mutant::HandOffGrantsTwo) {
                self.wake_second(entry, resource);
            }
            return self.grant(entry, resource, &waiter, answering);
        }
    }

    /// Grants a free resource to a waiter that is in no line (any more), whose first attempt is paid.
    pub(super) fn grant(
        &mut self,
        entry: &mut Entry<'_>,
        resource: &Resource,
        waiter: &Waiter,
        answering: Option<OpId>,
    ) -> Option<Granted> {
        let now_ms = self.now_ms();
        let fencing_token = self.next_token();
        let (gone, away): (Vec<_>, Vec<_>) =
            (waiter.detached.iter()).partition(|detached| self.state.is_gone(detached));
        // One request, and its hang-up gives the lock back. Of several, any may go on with it.
        let newest = match waiter.attached.as_slice() {
            [only] if away.is_empty() => Some(only),
            _ => None,
        };
        let grant = Grant {
            holder: waiter.holder.clone(),
            fencing_token,
            expires_at_ms: now_ms.saturating_add(waiter.lease_ms),
            newest: newest.and_then(|a| Newest::new(a.operation, a.idempotency.clone())),
            fifo: waiter.fifo,
            attempts: waiter.attempts(now_ms),
        };
        #[cfg(evermind_mutants)]
        let grant = super::mutated::shortened(grant, waiter.lease_ms);
        self.count(&resource.identity, |counts| counts.leases += 1);
        self.change_lock(resource, |lock| lock.grants.add(grant));

        let attempts = waiter.attempts(now_ms);
        self.charge_rest(waiter, attempts);
        let mut answered = None;
        let told: Vec<_> = waiter.attached.iter().chain(away).collect();
        for attached in &told {
            let granted = Granted {
                holder: waiter.holder.clone(),
                fencing_token,
                expires_in_ms: waiter.lease_ms,
                waited_ms: now_ms - attached.since_ms,
                attempts,
            };
            if answering == Some(attached.operation) {
                answered = Some(granted);
            } else {
                entry.answer(Event::WaitEnded {
                    operation: attached.operation,
                    resource: resource.clone(),
                    outcome: Outcome::Granted(granted),
                });
            }
        }
        // Where one is there after all, its node resumes the wait, which is then told of the grant.
        for detached in gone {
            entry.answer(Event::WaitEnded {
                operation: detached.operation,
                resource: resource.clone(),
                outcome: self.held(resource, HeldReason::Detached, attempts),
            });
        }
        let answer = Answer::Granted {
            resource: resource.clone(),
            holder: waiter.holder.clone(),
            fencing_token,
            attempts,
        };
        for key in &waiter.records {
            let id = acquire_id(resource, key);
            // Whoever is not told of this grant may come again when it has ended, or was given back:
            // then its request starts anew.
            let is_told = told.iter().any(|a| a.idempotency.as_ref() == Some(key));
            if is_told {
                self.settle(id, answer.clone());
            } else {
                self.forget(&id);
            }
        }
        answered
    }

    /// Settles every named acquire of a wait that is over.
    pub(super) fn settle_all(&mut self, resource: &Resource, waiter: &Waiter, answer: &Answer) {
        for key in &waiter.records {
            self.settle(acquire_id(resource, key), answer.clone());
        }
    }

    fn next_token(&mut self) -> u64 {
        let token = self.state.meta.next_token;
        assert!(token <= FENCING_TOKEN_MAX, "the fencing tokens are used up");
        self.state.meta.next_token += 1;
        self.touched.insert(RecordKey::Meta);
        token
    }

    /// The refusal of whoever does not get a held resource.
    pub(super) fn held(&self, resource: &Resource, reason: HeldReason, attempts: u32) -> Outcome {
        let lock = self.state.locks.get(resource);
        let current = lock.and_then(|lock| {
            let grant = self.state.grant_of(lock)?;
            Some(Current {
                fencing_token: grant.fencing_token,
                expires_in_ms: grant.expires_at_ms - self.now_ms(),
                waiting: lock.queue.waiting() as u64,
            })
        });
        refused(Refusal::LockHeld {
            reason,
            attempts,
            current,
        })
    }
}

/// The record of a named acquire.
pub(super) fn acquire_id(resource: &Resource, key: &IdempotencyKey) -> IdempotencyId {
    IdempotencyId {
        identity: resource.identity.clone(),
        endpoint: Endpoint::Acquire,
        key: key.clone(),
    }
}
