//! Keeping a lock, and giving it back.

use evermind_lock::command::{Extend, Idempotency, KeyId, Release};
use evermind_lock::names::{Holder, Key, Resource};
use evermind_lock::outcome::{HeldReason, Outcome, Refusal};

use super::numbers::LEASE_MS_MAX;
use super::once::{Endpoint, Fresh, Meaning, NamedState};
use super::{Model, no};

impl Model {
    /// Whose a resource is not.
    fn check_holder(&self, resource: &Resource, holder: &Holder) -> Result<(), Refusal> {
        let grant = self.grants.get(resource);
        if grant.is_some_and(|grant| grant.holder == *holder) {
            return Ok(());
        }
        if grant.is_none() && self.place_of(resource, holder).is_none() {
            return Err(Refusal::LockNotFound);
        }
        Err(Refusal::NotOwner)
    }

    /// Which lock is meant, and the name that the outcome is kept under; or what is known already.
    fn begin(
        &mut self,
        caller: KeyId,
        endpoint: Endpoint,
        named: Option<&Idempotency>,
        key: &Key,
    ) -> Result<(Resource, Option<Fresh>), Outcome> {
        let (caller, meaning) = self.who_and_what(caller, endpoint, named).map_err(no)?;
        let fresh = match meaning {
            Meaning::Unnamed => None,
            Meaning::Fresh(fresh) => Some(fresh),
            Meaning::Known(state) => return Err(self.report(state)),
        };
        let resource = Resource {
            identity: caller.identity,
            key: key.clone(),
        };
        Ok((resource, fresh))
    }

    pub(super) fn extend(&mut self, extend: &Extend) -> Outcome {
        self.catch_up_for(extend.caller, &extend.key, &extend.holder);
        let named = extend.idempotency.as_ref();
        let begun = self.begin(extend.caller, Endpoint::Extend, named, &extend.key);
        let (resource, fresh) = match begun {
            Ok(begun) => begun,
            Err(outcome) => return outcome,
        };
        let extended = self.extend_anew(&resource, &extend.holder, extend.extend_by_ms);
        if let Some(fresh) = fresh {
            let state = match &extended {
                Ok((token, _)) => NamedState::Extended {
                    resource,
                    token: *token,
                },
                Err(refusal) => NamedState::Refused(refusal.clone()),
            };
            self.name(&fresh, state);
        }
        match extended {
            Ok((fencing_token, expires_in_ms)) => Outcome::Extended {
                fencing_token,
                expires_in_ms,
            },
            Err(refusal) => no(refusal),
        }
    }

    /// Token and what is left.
    fn extend_anew(
        &mut self,
        resource: &Resource,
        holder: &Holder,
        by_ms: u64,
    ) -> Result<(u64, u64), Refusal> {
        self.check_holder(resource, holder)?;
        let now_ms = self.now_ms;
        let grant = self.grants.get_mut(resource).ok_or(Refusal::LockNotFound)?;
        let left_ms = grant.expires_ms - now_ms;
        if by_ms > LEASE_MS_MAX - left_ms.min(LEASE_MS_MAX) {
            return Err(Refusal::ExtendPastLimit { left_ms });
        }
        grant.expires_ms += by_ms;
        grant.newest = None;
        let told = (grant.token, grant.expires_ms - now_ms);
        self.follow(resource);
        Ok(told)
    }

    pub(super) fn release(&mut self, release: &Release) -> Outcome {
        self.catch_up_for(release.caller, &release.key, &release.holder);
        let named = release.idempotency.as_ref();
        let begun = self.begin(release.caller, Endpoint::Release, named, &release.key);
        let (resource, fresh) = match begun {
            Ok(begun) => begun,
            Err(outcome) => return outcome,
        };
        let released = self.release_anew(&resource, &release.holder);
        if let Some(fresh) = fresh {
            let state = match &released {
                Ok(()) => NamedState::Released,
                Err(refusal) => NamedState::Refused(refusal.clone()),
            };
            self.name(&fresh, state);
        }
        released.map_or_else(no, |()| Outcome::Released)
    }

    fn release_anew(&mut self, resource: &Resource, holder: &Holder) -> Result<(), Refusal> {
        if let Some(place) = self.place_of(resource, holder) {
            self.end_wait(resource, place, HeldReason::ReleasedWhileWaiting);
            return Ok(());
        }
        self.check_holder(resource, holder)?;
        self.end_grant(resource);
        Ok(())
    }

    /// What a repeated extend or release is told.
    fn report(&self, state: NamedState) -> Outcome {
        match state {
            NamedState::Extended { resource, token } => match self.left_ms(&resource, token) {
                Some(expires_in_ms) => Outcome::Extended {
                    fencing_token: token,
                    expires_in_ms,
                },
                None => no(Refusal::GrantEnded { attempts: 0 }),
            },
            NamedState::Released => Outcome::Released,
            NamedState::Refused(refusal) => no(refusal),
            _ => Outcome::Stale,
        }
    }
}
