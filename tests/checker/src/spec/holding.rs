//! Taking a lock, and handing it over.

use evermind_lock::command::{Acquire, KeyId, OpId, Resume};
use evermind_lock::names::{Holder, IdempotencyKey, Resource};
use evermind_lock::outcome::{Current, Event, Granted, HeldReason, Limit, Outcome, Refusal};

use super::accounts::Caller;
use super::line::{Request, Wait, acquire_name};
use super::numbers::{
    LEASE_MS_MAX, LOCKS_MAX, LOCKS_PER_IDENTITY_MAX, RETRY_ATTEMPTS_MAX, WAITERS_PER_IDENTITY_MAX,
    WAITERS_PER_RESOURCE_MAX, WINDOW_MS_MAX,
};
use super::once::{Endpoint, Fresh, Meaning, NamedState};
use super::{Model, no};

/// One lease.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) holder: Holder,
    pub(super) token: u64,
    pub(super) expires_ms: u64,
    pub(super) fifo: bool,
    pub(super) attempts: u32,
    /// The one request that was told of it, whose hang-up gives it back; none once the holder has
    /// shown itself in another way.
    pub(super) newest: Option<(OpId, Option<IdempotencyKey>)>,
}

/// What an acquire asks for beside the lock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) lease_ms: u64,
    pub(super) window_ms: u64,
    pub(super) retry_attempts: u32,
    pub(super) fifo: bool,
}

/// An acquire of somebody who may ask.
pub(super) struct Asked {
    pub(super) operation: OpId,
    pub(super) caller: Caller,
    pub(super) holder: Holder,
    pub(super) idempotency: Option<IdempotencyKey>,
    pub(super) credit: u32,
    /// A repeated request has none of its own.
    pub(super) terms: Option<Terms>,
    /// How much of its window was over when its place was dropped: 0 of all that were not resumed.
    pub(super) waited_ms: u64,
    /// Whether its place was dropped, and it goes on.
    pub(super) is_resumed: bool,
    /// What it was charged for then.
    pub(super) paid: u32,
}

impl Asked {
    pub(super) fn request(&self, since_ms: u64, generation: u64) -> Request {
        Request {
            operation: self.operation,
            caller: self.caller.key,
            since_ms: since_ms.saturating_sub(self.waited_ms),
            generation,
            idempotency: self.idempotency.clone(),
        }
    }
}

impl Model {
    pub(super) fn acquire(&mut self, operation: OpId, acquire: &Acquire) -> Outcome {
        self.acquire_after(operation, acquire, 0, 0)
    }

    /// The same acquire, after its place was dropped: nothing is paid for twice.
    pub(super) fn resume(&mut self, operation: OpId, resume: &Resume) -> Outcome {
        let window_ms = resume.acquire.window_ms.min(WINDOW_MS_MAX);
        let waited_ms = resume.waited_ms.min(window_ms);
        let paid = resume.attempts.clamp(1, 1 + RETRY_ATTEMPTS_MAX);
        self.acquire_after(operation, &resume.acquire, waited_ms, paid)
    }

    fn acquire_after(
        &mut self,
        operation: OpId,
        acquire: &Acquire,
        waited_ms: u64,
        paid: u32,
    ) -> Outcome {
        let named = acquire.idempotency.as_ref();
        self.catch_up_for(acquire.caller, &acquire.key, &acquire.holder);
        self.catch_up_named(acquire);
        let (caller, meaning) = match self.who_and_what(acquire.caller, Endpoint::Acquire, named) {
            Ok(known) => known,
            Err(refusal) => return no(refusal),
        };
        let resource = Resource {
            identity: caller.identity.clone(),
            key: acquire.key.clone(),
        };
        let mut asked = Asked {
            operation,
            caller,
            holder: acquire.holder.clone(),
            idempotency: named.map(|named| named.key.clone()),
            credit: 0,
            terms: Some(Terms {
                lease_ms: acquire.lease_ms.clamp(1, LEASE_MS_MAX),
                window_ms: acquire.window_ms.min(WINDOW_MS_MAX),
                retry_attempts: acquire.retry_attempts.min(RETRY_ATTEMPTS_MAX),
                fifo: acquire.fifo,
            }),
            waited_ms,
            is_resumed: paid > 0,
            paid,
        };
        let fresh = match meaning {
            Meaning::Unnamed => None,
            Meaning::Fresh(fresh) => Some(fresh),
            Meaning::Known(NamedState::Open(resource, holder)) => {
                asked.holder = holder;
                asked.terms = None;
                return match self.place_of(&resource, &asked.holder) {
                    Some(place) => self.attach(&resource, place, &asked),
                    None => Outcome::Stale,
                };
            }
            Meaning::Known(state) => return self.report_acquire(state, waited_ms),
        };
        asked.credit = fresh.as_ref().map_or(0, |fresh| fresh.credit).max(paid);
        let outcome = self.take(&resource, &asked);
        if let Some(fresh) = fresh {
            self.name_acquire(&fresh, resource, asked.holder, &outcome);
        }
        outcome
    }

    /// A name may stand for a wait of another uuid, which may be over.
    fn catch_up_named(&mut self, acquire: &Acquire) {
        let named = acquire.idempotency.as_ref();
        let known = self.who_and_what(acquire.caller, Endpoint::Acquire, named);
        self.repeated = false;
        if let Ok((_, Meaning::Known(NamedState::Open(resource, holder)))) = known {
            self.catch_up(&resource, &holder);
        }
    }

    pub(super) fn who_and_what(
        &mut self,
        key: KeyId,
        endpoint: Endpoint,
        named: Option<&evermind_lock::command::Idempotency>,
    ) -> Result<(Caller, Meaning), Refusal> {
        let caller = self.caller(key)?;
        let meaning = self.meaning(&caller, endpoint, named)?;
        Ok((caller, meaning))
    }

    fn name_acquire(
        &mut self,
        fresh: &Fresh,
        resource: Resource,
        holder: Holder,
        outcome: &Outcome,
    ) {
        let state = match outcome {
            Outcome::Queued => NamedState::Open(resource, holder),
            Outcome::Granted(granted) => NamedState::Granted {
                resource,
                holder,
                token: granted.fencing_token,
                attempts: granted.attempts,
            },
            Outcome::Refused(refusal) => NamedState::Refused(refusal.clone()),
            _ => return,
        };
        self.name(fresh, state);
    }

    /// A repetition reports the present.
    fn report_acquire(&mut self, state: NamedState, waited_ms: u64) -> Outcome {
        match state {
            NamedState::Granted {
                resource,
                holder,
                token,
                attempts,
            } => match self.left_ms(&resource, token) {
                Some(expires_in_ms) => {
                    self.untie(&resource, &holder);
                    Outcome::Granted(Granted {
                        holder,
                        fencing_token: token,
                        expires_in_ms,
                        waited_ms,
                        attempts,
                    })
                }
                None => no(Refusal::GrantEnded { attempts }),
            },
            NamedState::Refused(refusal) => no(refusal),
            _ => Outcome::Stale,
        }
    }

    pub(super) fn left_ms(&self, resource: &Resource, token: u64) -> Option<u64> {
        let grant = self.grants.get(resource)?;
        let is_its_own = grant.token == token && grant.expires_ms >= self.now_ms;
        is_its_own.then(|| grant.expires_ms - self.now_ms)
    }

    /// More than one request knows of the grant: none of them gives it back by hanging up.
    pub(super) fn untie(&mut self, resource: &Resource, holder: &Holder) {
        let grant = self.grants.get_mut(resource);
        if let Some(grant) = grant.filter(|grant| grant.holder == *holder) {
            grant.newest = None;
        }
    }

    fn take(&mut self, resource: &Resource, asked: &Asked) -> Outcome {
        let licence = asked.caller.licence;
        let Some(terms) = asked.terms else {
            return Outcome::Stale;
        };
        if let Some(place) = self.place_of(resource, &asked.holder) {
            return self.attach(resource, place, asked);
        }
        if let Err(refusal) = self.check_allowance(licence, asked.credit) {
            return no(refusal);
        }
        let rest_of_first = 1_u32.saturating_sub(asked.credit);
        match self.grants.get(resource) {
            Some(grant) if grant.holder == asked.holder => {
                let granted = Granted {
                    holder: grant.holder.clone(),
                    fencing_token: grant.token,
                    expires_in_ms: grant.expires_ms - self.now_ms,
                    waited_ms: asked.waited_ms,
                    attempts: if asked.is_resumed { asked.paid } else { 1 },
                };
                self.charge(licence, rest_of_first);
                self.untie(resource, &asked.holder);
                Outcome::Granted(granted)
            }
            None if !self.ready.contains_key(resource) => {
                if let Some(limit) = self.lease_limit(resource) {
                    return no(Refusal::LimitReached(limit));
                }
                self.charge(licence, rest_of_first);
                let generation = self.generation(asked.operation);
                let wait = Wait::new(asked, terms, self.now_ms, generation);
                let granted = self.grant(resource, &wait, Some(asked.operation));
                granted.map_or(Outcome::Stale, Outcome::Granted)
            }
            // Held, or about to be granted to those who came before.
            _ if terms.window_ms == 0 => self.refuse_to_wait(resource, asked, terms),
            _ => {
                if let Some(limit) = self.wait_limit(resource) {
                    return no(Refusal::LimitReached(limit));
                }
                self.charge(licence, rest_of_first);
                let generation = self.generation(asked.operation);
                self.join(resource, Wait::new(asked, terms, self.now_ms, generation));
                Outcome::Queued
            }
        }
    }

    /// It is held, and the request has no window: all its tries are made at once.
    pub(super) fn refuse_to_wait(
        &mut self,
        resource: &Resource,
        asked: &Asked,
        terms: Terms,
    ) -> Outcome {
        let licence = asked.caller.licence;
        if let Err(refusal) = self.check_allowance(licence, asked.credit) {
            return no(refusal);
        }
        let attempts = 1 + terms.retry_attempts;
        self.charge(licence, attempts.saturating_sub(asked.credit));
        let reason = if asked.is_resumed {
            HeldReason::WindowPassed
        } else {
            HeldReason::NoWait
        };
        no(self.held(resource, reason, attempts))
    }

    pub(super) fn lease_limit(&self, resource: &Resource) -> Option<Limit> {
        let own = self.leases_of.get(&resource.identity).copied();
        // What is about to be granted counts.
        let to_come = self.to_grant.len();
        if self.grants.len() + to_come >= LOCKS_MAX {
            Some(Limit::Locks)
        } else if own.unwrap_or_default() + to_come >= LOCKS_PER_IDENTITY_MAX {
            Some(Limit::LocksPerIdentity)
        } else {
            None
        }
    }

    fn wait_limit(&self, resource: &Resource) -> Option<Limit> {
        let line = self
            .lines
            .get(resource)
            .map_or(0, std::collections::BTreeMap::len);
        let own = self.waits_of.get(&resource.identity).copied();
        if line >= WAITERS_PER_RESOURCE_MAX {
            Some(Limit::WaitersPerResource)
        } else if own.unwrap_or_default() >= WAITERS_PER_IDENTITY_MAX {
            Some(Limit::WaitersPerIdentity)
        } else {
            None
        }
    }

    /// Grants a free resource. What `answering` is told is returned; all others are told by events.
    fn grant(
        &mut self,
        resource: &Resource,
        wait: &Wait,
        answering: Option<OpId>,
    ) -> Option<Granted> {
        self.tokens += 1;
        let (token, now_ms) = (self.tokens, self.now_ms);
        let free_ms = self.free_since_ms.remove(resource).unwrap_or(now_ms);
        let attempts = wait.attempts(now_ms);
        let expires_ms = now_ms + wait.terms.lease_ms;
        let everyone = wait.everyone().cloned();
        let (gone, told): (Vec<_>, Vec<_>) = everyone.partition(|request| {
            let is_away = wait
                .detached
                .iter()
                .any(|d| d.operation == request.operation);
            is_away && self.is_gone(request)
        });
        let only = match told.as_slice() {
            [only] => Some((only.operation, only.idempotency.clone())),
            _ => None,
        };
        let grant = Grant {
            holder: wait.holder.clone(),
            token,
            expires_ms,
            fifo: wait.terms.fifo,
            attempts,
            newest: only,
        };
        let before = self.grants.insert(resource.clone(), grant);
        assert!(before.is_none(), "a lock has one holder");
        let leases = self.leases_of.entry(resource.identity.clone());
        *leases.or_default() += 1;
        self.follow(resource);
        self.charge_rest(wait, attempts);
        let mut answer = None;
        for request in &told {
            // Whoever came later found it free.
            let due_ms = free_ms.max(request.since_ms).min(now_ms);
            self.due_ms.insert(request.operation, due_ms);
            let granted = Granted {
                holder: wait.holder.clone(),
                fencing_token: token,
                expires_in_ms: wait.terms.lease_ms,
                waited_ms: now_ms - request.since_ms,
                attempts,
            };
            if answering == Some(request.operation) {
                answer = Some(granted);
            } else {
                self.answer(Event::WaitEnded {
                    operation: request.operation,
                    resource: resource.clone(),
                    outcome: Outcome::Granted(granted),
                });
            }
        }
        for request in &gone {
            let outcome = no(self.held(resource, HeldReason::Detached, attempts));
            self.tell(request, resource, &outcome);
        }
        let state = NamedState::Granted {
            resource: resource.clone(),
            holder: wait.holder.clone(),
            token,
            attempts,
        };
        for key in &wait.names {
            let name = acquire_name(resource, key);
            if told.iter().any(|r| r.idempotency.as_ref() == Some(key)) {
                self.settle_name(&name, state.clone());
            } else {
                // Nobody is told under this name: it starts anew.
                self.forget_name(&name);
            }
        }
        answer
    }

    /// A free resource goes to the first in line whose caller is there.
    pub(super) fn hand_over(
        &mut self,
        resource: &Resource,
        answering: Option<OpId>,
    ) -> Option<Granted> {
        while !self.grants.contains_key(resource) && self.left > 0 {
            let place = *self.ready.get(resource)?.first()?;
            if self.is_whole(resource, place) {
                self.spend();
                let wait = self.leave(resource, place)?;
                return self.grant(resource, &wait, answering);
            }
            self.catch_up_wait(resource, place);
        }
        None
    }

    pub(super) fn end_grant(&mut self, resource: &Resource) {
        self.spend();
        let Some(grant) = self.grants.remove(resource) else {
            return;
        };
        // Over since then, however late this is.
        let free_ms = self.now_ms.min(grant.expires_ms + 1);
        self.free_since_ms.insert(resource.clone(), free_ms);
        self.follow(resource);
        if let Some(leases) = self.leases_of.get_mut(&resource.identity) {
            *leases -= 1;
        }
        self.hand_over(resource, None);
        if !self.ready.contains_key(resource) {
            self.free_since_ms.remove(resource);
        }
    }

    /// The caller of this acquire was never told of its grant.
    pub(super) fn give_back(&mut self, resource: &Resource, operation: OpId) {
        let Some(grant) = self.grants.get(resource) else {
            return;
        };
        let Some((newest, key)) = grant.newest.clone() else {
            return;
        };
        if newest == operation {
            let token = grant.token;
            if let Some(key) = key {
                self.credit_name(&acquire_name(resource, &key), token);
            }
            self.end_grant(resource);
        }
    }

    pub(super) fn held(&self, resource: &Resource, reason: HeldReason, attempts: u32) -> Refusal {
        let grant = self.grants.get(resource);
        let grant = grant.filter(|grant| grant.expires_ms >= self.now_ms);
        let current = grant.map(|grant| Current {
            fencing_token: grant.token,
            expires_in_ms: grant.expires_ms - self.now_ms,
            waiting: self.waiting(resource),
        });
        Refusal::LockHeld {
            reason,
            attempts,
            current,
        }
    }
}
