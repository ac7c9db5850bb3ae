//! What must hold after every entry.

use std::collections::BTreeSet;

use super::{Index, LockTable};
use crate::idempotency::{Answer, Endpoint, IdempotencyId, IdempotencyState};
use crate::limits::{
    API_KEYS_MAX, API_KEYS_PER_LICENCE_MAX, ATTACHMENTS_PER_WAITER_MAX, FENCING_TOKEN_MAX,
    IDEMPOTENCY_KEYS_MAX, IDEMPOTENCY_KEYS_PER_WAITER_MAX, LEASE_MS_MAX, LICENCES_MAX, LOCKS_MAX,
    LOCKS_PER_IDENTITY_MAX, MEMBERS_MAX, OPEN_OPERATIONS_MAX, WAITERS_PER_IDENTITY_MAX,
    WAITERS_PER_RESOURCE_MAX,
};
use crate::names::Resource;
use crate::queue::Waiter;
use crate::record::Lock;

/// `Err` with the text unless the condition holds.
macro_rules! hold {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}

impl LockTable {
    /// Reads the whole table and checks every invariant of [`LockTable`].
    ///
    /// # Panics
    /// If one is broken: that is a bug, and going on would hide it.
    pub fn check_invariants(&self) {
        if let Some(why) = self.contradiction() {
            panic!("broken invariant: {why}");
        }
    }

    fn contradiction(&self) -> Option<String> {
        if Index::of(&self.state) != self.index {
            return Some("the deadlines, attachments or counts do not mirror the table".into());
        }
        self.contradiction_kept()
    }

    /// The first contradiction within what is kept, the index taken as it is.
    pub(super) fn contradiction_kept(&self) -> Option<String> {
        let checks = [
            Self::check_bounds,
            Self::check_locks,
            Self::check_records,
            Self::check_sessions,
            Self::check_licences,
        ];
        checks.iter().find_map(|check| check(self).err())
    }

    fn check_bounds(&self) -> Result<(), String> {
        hold!(self.live_leases() <= LOCKS_MAX, "too many locks");
        for (identity, counts) in &self.index.counts {
            hold!(
                counts.leases <= LOCKS_PER_IDENTITY_MAX
                    && counts.waiters <= WAITERS_PER_IDENTITY_MAX,
                "{identity} has too many locks or waiters"
            );
        }
        Ok(())
    }

    fn check_locks(&self) -> Result<(), String> {
        let mut tokens = BTreeSet::new();
        let mut places = BTreeSet::new();
        for (resource, lock) in self.state.locks.iter() {
            let name = &resource.key;
            hold!(!lock.is_empty(), "{name} has neither grant nor waiter");
            if let Some(grant) = lock.grants.current() {
                let token = grant.fencing_token;
                hold!(tokens.insert(token), "token {token} twice");
                hold!(token < self.state.meta.next_token, "token {token} to come");
                hold!(token <= FENCING_TOKEN_MAX, "token {token} too high");
                hold!(
                    grant.expires_at_ms.saturating_sub(self.now_ms()) <= LEASE_MS_MAX,
                    "{name} is held for too long"
                );
                hold!(
                    lock.queue.of(&grant.holder).is_none(),
                    "the holder of {name} waits for it"
                );
            }
            hold!(
                lock.queue.len() <= WAITERS_PER_RESOURCE_MAX,
                "{name} has too many waiters"
            );
            for waiter in lock.queue.iter() {
                let place = waiter.place;
                hold!(places.insert(place), "place {place} twice");
                hold!(place < self.state.meta.next_place, "place {place} to come");
                self.check_waiter(resource, lock, waiter)?;
            }
        }
        Ok(())
    }

    fn check_waiter(
        &self,
        resource: &Resource,
        lock: &Lock,
        waiter: &Waiter,
    ) -> Result<(), String> {
        let holder = &waiter.holder;
        hold!(
            lock.queue.of(holder) == Some(waiter),
            "{holder} waits twice in one line"
        );
        hold!(
            waiter.attached.is_empty() == waiter.place_ends_ms.is_some(),
            "{holder} is neither attached nor about to go"
        );
        hold!(
            waiter.attached.len() <= ATTACHMENTS_PER_WAITER_MAX
                && waiter.detached.len() <= ATTACHMENTS_PER_WAITER_MAX
                && waiter.records.len() <= IDEMPOTENCY_KEYS_PER_WAITER_MAX,
            "{holder} has too many attachments or idempotency keys"
        );
        let licence = waiter.licence;
        hold!(
            self.state.licences.get(&licence).is_some(),
            "nobody pays for the wait of {holder}"
        );
        for key in &waiter.records {
            let id = IdempotencyId {
                identity: resource.identity.clone(),
                endpoint: Endpoint::Acquire,
                key: key.clone(),
            };
            let record = self.state.idempotency.get(&id);
            let open = record.is_some_and(|record| match &record.state {
                IdempotencyState::Open {
                    resource: on,
                    holder: by,
                } => on == resource && by == holder,
                _ => false,
            });
            hold!(open, "the wait of {holder} has lost its record {key}");
        }
        Ok(())
    }

    fn check_records(&self) -> Result<(), String> {
        let records = self.state.idempotency.len();
        hold!(records <= IDEMPOTENCY_KEYS_MAX, "too many idempotency keys");
        for (id, record) in self.state.idempotency.iter() {
            let key = &id.key;
            hold!(
                record.sequence < self.state.meta.next_record,
                "record {key} to come"
            );
            match &record.state {
                IdempotencyState::Open { resource, holder } => {
                    let waiter = self.waiter(resource, holder);
                    hold!(
                        id.endpoint == Endpoint::Acquire
                            && waiter.is_some_and(|waiter| waiter.records.contains(key)),
                        "the record {key} is open, and no wait will settle it"
                    );
                }
                IdempotencyState::Paid { .. } => {
                    hold!(
                        id.endpoint == Endpoint::Acquire,
                        "the record {key} paid for nothing"
                    );
                }
                IdempotencyState::Done { answer, .. } => {
                    let fits = match answer {
                        Answer::Granted { .. } => id.endpoint == Endpoint::Acquire,
                        Answer::Extended { .. } => id.endpoint == Endpoint::Extend,
                        Answer::Released => id.endpoint == Endpoint::Release,
                        Answer::Refused(_) => true,
                    };
                    hold!(fits, "the record {key} answers another operation");
                }
            }
        }
        Ok(())
    }

    fn check_sessions(&self) -> Result<(), String> {
        hold!(
            self.state.sessions.len() <= MEMBERS_MAX && self.state.members.len() <= MEMBERS_MAX,
            "too many nodes"
        );
        for (node, session) in self.state.sessions.iter() {
            let below = session.answered_below;
            let open = session
                .iter()
                .all(|(sequence, _)| sequence >= below && sequence - below < OPEN_OPERATIONS_MAX);
            hold!(open, "node {node} has operations outside its open ones");
        }
        Ok(())
    }

    fn check_licences(&self) -> Result<(), String> {
        let (state, accounts) = (&self.state, &self.index.accounts);
        let built_in = accounts.built_in.len();
        hold!(
            state.licences.len() <= LICENCES_MAX + built_in,
            "too many licences"
        );
        hold!(
            state.api_keys.len() <= API_KEYS_MAX + built_in * API_KEYS_PER_LICENCE_MAX,
            "too many API keys"
        );
        hold!(
            state.licences.len() as u64 + 1 == state.meta.next_licence,
            "licences are missing"
        );
        hold!(
            accounts.keys.len() == state.api_keys.len(),
            "two API keys have one id"
        );
        hold!(
            accounts.by_key.len() + accounts.built_in.len() == state.licences.len(),
            "two licences have one key, or are built in for one identity"
        );
        for (id, keys) in &accounts.keys_of {
            hold!(
                state.licences.get(id).is_some(),
                "an API key has no licence"
            );
            hold!(
                keys.len() <= API_KEYS_PER_LICENCE_MAX,
                "a licence has too many API keys"
            );
        }
        Ok(())
    }
}
