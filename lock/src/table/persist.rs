//! The table as records: frozen, changed, restored.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Follows, Index, LockTable, State};
use crate::changes::Changes;
#[cfg(evermind_mutants)]
use crate::mutant::{self, Mutant};
use crate::names::{IdentityId, Resource};
use crate::record::{Lock, Record, RecordKey};
use crate::shards::HashKey;

/// Why records make no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The record that every table has is missing.
    #[error("the record of cluster time and counters is missing")]
    NoMeta,
    /// A record under another's name.
    #[error("a record does not fit its name: {0:?}")]
    Misnamed(Box<RecordKey>),
    /// Twice the same name.
    #[error("a record came twice: {0:?}")]
    Repeated(Box<RecordKey>),
    /// The records contradict each other.
    #[error("the records contradict each other: {0}")]
    Contradiction(String),
}

/// A consistent view of a table at one entry, unchanged by what is applied later.
///
/// Shares its memory with the table: what the table changes while a view lives is copied, shard by
/// shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen(pub(super) State);

impl Frozen {
    /// Every record, in a fixed order.
    pub fn records(&self) -> impl Iterator<Item = (RecordKey, Record)> + use<> {
        self.clone().into_records()
    }

    /// The same, and each part of the view is let go of once its records were given: the table
    /// copies less while they are written.
    pub fn into_records(self) -> impl Iterator<Item = (RecordKey, Record)> + use<> {
        let State {
            meta,
            locks,
            idempotency,
            sessions,
            licences,
            api_keys,
            members,
        } = self.0;
        let members = Arc::unwrap_or_clone(members).into_iter();
        let sessions = Arc::unwrap_or_clone(sessions).into_iter();
        std::iter::once((RecordKey::Meta, Record::Meta(meta)))
            .chain(
                licences
                    .into_entries()
                    .map(|(id, licence)| (RecordKey::Licence(id), Record::Licence(licence))),
            )
            .chain(
                api_keys
                    .into_entries()
                    .map(|(hash, key)| (RecordKey::ApiKey(hash), Record::ApiKey(key))),
            )
            .chain(members.map(|(node, member)| (RecordKey::Member(node), Record::Member(member))))
            .chain(sessions.map(|(node, session)| {
                let session = Arc::unwrap_or_clone(session);
                (RecordKey::Session(node), Record::Session(session))
            }))
            .chain(
                locks
                    .into_entries()
                    .map(|(resource, lock)| (RecordKey::Lock(resource), Record::Lock(lock))),
            )
            .chain(
                idempotency
                    .into_entries()
                    .map(|(id, record)| (RecordKey::Idempotency(id), Record::Idempotency(record))),
            )
    }

    /// One record; `None` if there is none (any more).
    pub fn record(&self, key: &RecordKey) -> Option<Record> {
        match key {
            RecordKey::Meta => Some(Record::Meta(self.0.meta.clone())),
            RecordKey::Lock(resource) => self.0.locks.get(resource).cloned().map(Record::Lock),
            RecordKey::Session(node) => {
                let session = self.0.sessions.get(node)?;
                Some(Record::Session(session.as_ref().clone()))
            }
            RecordKey::Idempotency(id) => {
                let record = self.0.idempotency.get(id).cloned();
                record.map(Record::Idempotency)
            }
            RecordKey::ApiKey(hash) => self.0.api_keys.get(hash).cloned().map(Record::ApiKey),
            RecordKey::Licence(id) => self.0.licences.get(id).cloned().map(Record::Licence),
            RecordKey::Member(node) => self.0.members.get(node).cloned().map(Record::Member),
        }
    }

    #[cfg(test)]
    pub(super) fn state(&self) -> &State {
        &self.0
    }

    /// Records in all.
    pub fn count(&self) -> usize {
        1 + self.0.locks.len()
            + self.0.idempotency.len()
            + self.0.sessions.len()
            + self.0.licences.len()
            + self.0.api_keys.len()
            + self.0.members.len()
    }

    /// Cluster time of the view, in ms.
    pub fn now_ms(&self) -> u64 {
        self.0.meta.now_ms
    }
}

impl LockTable {
    /// A view of the table as it is. Costs the number of groups of shards, however much is in
    /// them.
    pub fn freeze(&self) -> Frozen {
        Frozen(self.state.clone())
    }

    /// What changed since this was last called. A new table's and a restored table's first answer has
    /// only what changed since it was made.
    /// Costs nothing, however many there are: whoever applies is waiting for it.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.touched)
    }

    /// How many records changed since [`LockTable::take_changes`].
    pub fn changes(&self) -> usize {
        self.touched.len()
    }

    /// The table that these records were taken of, whose keys lie where anybody can compute it: for
    /// tests.
    pub fn restore(
        records: impl IntoIterator<Item = (RecordKey, Record)>,
    ) -> Result<LockTable, RestoreError> {
        Self::restore_keyed(HashKey::default(), records)
    }

    /// The table that these records were taken of.
    pub fn restore_keyed(
        hash_key: HashKey,
        records: impl IntoIterator<Item = (RecordKey, Record)>,
    ) -> Result<LockTable, RestoreError> {
        let mut table = LockTable::keyed(hash_key);
        table.touched = Changes::default();
        let mut identities = Identities::default();
        let mut meta = None;
        let state = &mut table.state;
        for (key, record) in records {
            let known = match (key.clone(), record) {
                (RecordKey::Meta, Record::Meta(record)) => meta.replace(record).is_some(),
                (RecordKey::Lock(resource), Record::Lock(lock)) => {
                    let resource = Resource {
                        identity: identities.shared(resource.identity),
                        key: resource.key,
                    };
                    state.locks.insert(resource, lock).is_some()
                }
                (RecordKey::Session(node), Record::Session(session)) => {
                    let sessions = Arc::make_mut(&mut state.sessions);
                    sessions.insert(node, Arc::new(session)).is_some()
                }
                // An open one stays: its wait would miss it, and the table be refused.
                #[cfg(evermind_mutants)]
                (RecordKey::Idempotency(_), Record::Idempotency(record))
                    if record.state.until_ms().is_some()
                        && mutant::is(Mutant::IdempotencyForgottenBySnapshot) =>
                {
                    false
                }
                (RecordKey::Idempotency(mut id), Record::Idempotency(mut record)) => {
                    id.identity = identities.shared(id.identity);
                    record.share_identity(&id.identity);
                    state.idempotency.insert(id, record).is_some()
                }
                (RecordKey::Licence(id), Record::Licence(mut licence)) => {
                    licence.identity = identities.shared(licence.identity);
                    state.licences.insert(id, licence).is_some()
                }
                (RecordKey::ApiKey(hash), Record::ApiKey(key)) => {
                    state.api_keys.insert(hash, key).is_some()
                }
                (RecordKey::Member(node), Record::Member(member)) if member.node == node => {
                    let members = Arc::make_mut(&mut state.members);
                    members.insert(node, member).is_some()
                }
                (key, _) => return Err(RestoreError::Misnamed(Box::new(key))),
            };
            if known {
                return Err(RestoreError::Repeated(Box::new(key)));
            }
        }
        state.meta = meta.ok_or(RestoreError::NoMeta)?;
        #[cfg(evermind_mutants)]
        if mutant::is(Mutant::TokenResetOnRestart) {
            state.meta.next_token = super::mutated::guessed_token(state);
        }
        table.index = Index::of(&table.state);
        let contradiction = table.contradiction_kept();
        contradiction.map_or(Ok(table), |why| Err(RestoreError::Contradiction(why)))
    }
}

/// Each identity's text once in memory, not once a lock.
#[derive(Default)]
struct Identities(BTreeSet<IdentityId>);

impl Identities {
    fn shared(&mut self, identity: IdentityId) -> IdentityId {
        if let Some(known) = self.0.get(&identity) {
            return known.clone();
        }
        self.0.insert(identity.clone());
        identity
    }
}

impl Index {
    /// What follows from the state.
    pub(super) fn of(state: &State) -> Self {
        let mut index = Index::default();
        for (resource, lock) in state.locks.iter() {
            index.add(resource, lock);
        }
        for (node, session) in state.sessions.iter() {
            index.ties.detach(*node, session.detachments);
        }
        for (id, record) in state.idempotency.iter() {
            if let Some(until_ms) = record.state.until_ms() {
                let at = (until_ms, record.sequence);
                index.deadlines.idempotency.insert(at, id.clone());
            }
        }
        for (hash, key) in state.api_keys.iter() {
            index.accounts.add_key(*hash, key);
        }
        for (id, licence) in state.licences.iter() {
            index.accounts.add_licence(*id, licence, state.meta.wall_ms);
        }
        index
    }

    fn add(&mut self, resource: &Resource, lock: &Lock) {
        let counts = self.counts.entry(resource.identity.clone()).or_default();
        if lock.grants.current().is_some() {
            counts.leases += 1;
            self.total.leases += 1;
        }
        for waiter in lock.queue.iter() {
            counts.waiters += 1;
            self.total.waiters += 1;
            let at = (waiter.ends_ms(), waiter.place);
            self.deadlines.waits.insert(at, resource.clone());
            if let Some(ends_ms) = waiter.place_ends_ms {
                let at = (ends_ms, waiter.place);
                self.deadlines.places.insert(at, resource.clone());
            }
            for attached in &waiter.attached {
                let wait = (resource.clone(), waiter.place);
                let generation = attached.generation;
                self.ties.insert(attached.operation, generation, wait);
            }
            for detached in &waiter.detached {
                let wait = (resource.clone(), waiter.place);
                self.ties.set_detached(detached.operation, wait);
            }
            for attached in waiter.callers() {
                let caller = (attached.caller, attached.operation);
                let wait = (resource.clone(), waiter.place);
                self.accounts.callers.insert(caller, wait);
            }
        }
        self.follow(&Follows::from(lock), resource);
    }
}
