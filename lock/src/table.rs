//! Every lock of the cluster, and the one way to change them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::changes::Changes;
use crate::command::{Action, Command, KeyHash, LicenceId, Member, NodeId, Operation, Stamp};
use crate::deadlines::Deadlines;
use crate::idempotency::{IdempotencyId, IdempotencyRecord};
use crate::limits::ANSWER_COST;
use crate::names::{IdentityId, Resource};
use crate::outcome::{Decision, Event, Outcome, Refusal};
use crate::record::{ApiKey, Licence, Lock, Meta, RecordKey, Session};
use crate::shards::{HashKey, Shards};
use crate::ties::Ties;

mod acquire;
mod cluster;
mod cut_off;
mod detach;
#[cfg(test)]
mod frozen_tests;
mod hold;
mod invariants;
mod licences;
#[cfg(evermind_mutants)]
mod mutated;
mod named;
mod over;
mod persist;
mod pieces;
mod query;
mod resume;
mod sessions;
mod wait;

pub use persist::{Frozen, RestoreError};
pub use pieces::Pieces;
pub use query::AttachmentState;

/// Where an entry stands in the log, and when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryContext {
    /// Its log index.
    pub log_index: u64,
    /// Its term.
    pub term: u64,
    /// The leader's stamp. Blank and membership entries have none.
    pub stamp: Option<Stamp>,
}

/// The lock table: pure, deterministic, the same on every node that applied the same log.
///
/// Invariants, all checked by `check_invariants`:
/// - at most one grant a resource, each with a token of its own below the next one;
/// - no waiter that could be granted while its resource is free, and nothing that is over, unless
///   the entry has done a whole piece of such work: see [`Pieces`];
/// - every lease, wait, detached place and decided idempotency record has its deadline, and there
///   are no other deadlines;
/// - an open idempotency record belongs to exactly one waiter, which lists it;
/// - every API key and every wait has its licence, which is charged for each attempt once: for the
///   first when it is admitted, for the rest in the entry that ends the wait;
/// - every bound of [`crate::limits`] holds.
#[derive(Debug)]
pub struct LockTable {
    state: State,
    index: Index,
    touched: Changes,
    pieces: Pieces,
}

/// What is kept. A clone costs the number of shards, and shares everything with its original.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    meta: Meta,
    locks: Shards<Resource, Lock>,
    idempotency: Shards<IdempotencyId, IdempotencyRecord>,
    sessions: Arc<BTreeMap<NodeId, Arc<Session>>>,
    licences: Shards<LicenceId, Licence>,
    api_keys: Shards<KeyHash, ApiKey>,
    members: Arc<BTreeMap<NodeId, Member>>,
}

/// What follows from the state, so as not to search for it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Index {
    deadlines: Deadlines,
    ties: Ties,
    /// Free resources that somebody attached waits for, by the place of the first: what is granted
    /// in the next entries.
    to_grant: BTreeMap<u64, Resource>,
    /// Identities that hold or wait for something.
    counts: BTreeMap<IdentityId, Counts>,
    /// Over all identities.
    total: Counts,
    accounts: licences::Accounts,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    leases: usize,
    waiters: usize,
}

/// The entry being applied.
struct Entry<'a> {
    log_index: u64,
    events: &'a mut Vec<Event>,
    /// How many removals, grants and detachments are left to it.
    left: u32,
}

impl Entry<'_> {
    fn spend(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// A caller gets its answer, which costs its node more than anything here.
    fn answer(&mut self, event: Event) {
        self.left = self.left.saturating_sub(ANSWER_COST);
        self.events.push(event);
    }
}

/// Two tables are equal if what they keep is: the rest follows from it.
impl PartialEq for LockTable {
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state
    }
}

impl Eq for LockTable {}

impl Default for LockTable {
    fn default() -> Self {
        Self::new()
    }
}

impl LockTable {
    /// An empty table at cluster time 0, whose keys lie where anybody can compute it: for tests.
    pub fn new() -> Self {
        Self::keyed(HashKey::default())
    }

    /// An empty table at cluster time 0.
    pub fn keyed(hash_key: HashKey) -> Self {
        Self {
            state: State {
                meta: Meta::default(),
                locks: Shards::new(hash_key),
                idempotency: Shards::new(hash_key),
                sessions: Arc::default(),
                licences: Shards::new(hash_key),
                api_keys: Shards::new(hash_key),
                members: Arc::default(),
            },
            index: Index::default(),
            touched: {
                let mut touched = Changes::default();
                touched.insert(RecordKey::Meta);
                touched
            },
            pieces: Pieces::default(),
        }
    }

    /// Applies one entry: moves cluster time, ends a piece of what is over, then runs the command.
    /// What is over and not yet ended is gone for the command all the same. What this did to waits is
    /// pushed onto `events` in the order it happened.
    ///
    /// # Panics
    /// If the fencing tokens are used up (2^53), or an invariant is broken: going on would break
    /// the promise that this table exists to keep.
    pub fn apply(
        &mut self,
        at: EntryContext,
        command: Command,
        events: &mut Vec<Event>,
    ) -> Decision {
        let piece = self.pieces.of(&command.action);
        let mut entry = Entry {
            log_index: at.log_index,
            events,
            left: piece,
        };
        self.advance(at);
        self.cut_off_expired();
        self.end_over(&mut entry);
        let was_too_much = entry.left == 0;
        if !matches!(command.action, Action::Expire) {
            entry.left = piece;
        }
        let decision = self.run(&mut entry, command);
        // No time has passed since: nothing is past its end unless it was before.
        if was_too_much || self.has_to_follow_up() {
            self.end_over(&mut entry);
        }
        // The whole check reads the whole table, so only where that is nothing.
        #[cfg(debug_assertions)]
        if self.is_small() {
            self.check_invariants();
            assert!(
                entry.left == 0 || !self.is_behind(),
                "broken invariant: something is over, and the entry could have ended it"
            );
        }
        decision
    }

    #[cfg(debug_assertions)]
    fn is_small(&self) -> bool {
        let state = &self.state;
        let locks = state.locks.len() + self.waiting();
        let rest = state.idempotency.len()
            + state.api_keys.len()
            + state.sessions.len()
            + state.licences.len();
        locks + rest < 64 && state.sessions.values().all(|session| session.is_small())
    }

    /// Takes note of the time on an entry that carries no command of ours: a blank or membership
    /// entry without a stamp changes nothing.
    fn advance(&mut self, at: EntryContext) {
        let Some(stamp) = at.stamp.filter(|stamp| stamp.term == at.term) else {
            return;
        };
        let meta = &mut self.state.meta;
        meta.now_ms = meta.now_ms.max(stamp.cluster_ms);
        meta.wall_ms = meta.wall_ms.max(stamp.wall_ms);
        self.touched.insert(RecordKey::Meta);
    }

    fn run(&mut self, entry: &mut Entry<'_>, command: Command) -> Decision {
        let log_index = entry.log_index;
        if let Some(operation) = command.operation
            && let Some(decision) = self.admit(log_index, operation)
        {
            #[cfg(evermind_mutants)]
            if let Action::Acquire(acquire) = &command.action
                && self.is_zombie(operation.id)
            {
                // The outcome is not kept: it would lie below what was answered.
                let outcome = self.acquire(entry, operation.id, acquire.clone());
                return Decision { log_index, outcome };
            }
            return decision;
        }
        let outcome = self.act(entry, command.operation, command.action);
        let decision = Decision { log_index, outcome };
        if let Some(Operation { id, .. }) = command.operation {
            self.record(id, decision.clone());
        }
        decision
    }

    fn act(
        &mut self,
        entry: &mut Entry<'_>,
        operation: Option<Operation>,
        action: Action,
    ) -> Outcome {
        let operation = operation.map(|operation| operation.id);
        match (action, operation) {
            (Action::Acquire(acquire), Some(op)) => self.acquire(entry, op, acquire),
            (Action::Resume(resume), Some(op)) => self.resume(entry, op, resume),
            (Action::Extend(extend), Some(_)) => self.extend(entry, extend),
            (Action::Release(release), Some(_)) => self.release(entry, release),
            // Nobody waits for what has no name, and it could take effect twice.
            (
                Action::Acquire(_) | Action::Resume(_) | Action::Extend(_) | Action::Release(_),
                None,
            ) => Outcome::Stale,
            (Action::Abandon(attachment), _) => self.abandon(entry, &attachment),
            (Action::Reattach(attachment), _) => self.reattach(entry, &attachment),
            (Action::DetachNode { node, boot }, _) => self.detach_node(node, boot),
            (Action::Expire, _) => Outcome::Done,
            (Action::Found { global_prefix }, _) => self.found(global_prefix),
            (Action::RecordMember(member), _) => self.record_member(member),
            (Action::AddApiKey { hash, identity }, _) => self.add_api_key(hash, identity),
            (Action::CreateLicence(create), _) => self.create_licence(create),
            (Action::RevokeLicence(id), _) => self.revoke_licence(id),
            (Action::CreateApiKey { licence, hash }, _) => self.create_api_key(&licence, hash),
            (Action::DeleteApiKey { licence, hash }, _) => self.delete_api_key(&licence, hash),
            (Action::DeleteApiKeyById { licence, key }, _) => {
                self.delete_api_key_by_id(licence, key)
            }
        }
    }

    /// Changes a resource's lock, made if it is not there; it goes if nothing is left in it. What
    /// follows from a lock as a whole is kept here, and nowhere else.
    fn change_lock<T>(&mut self, resource: &Resource, change: impl FnOnce(&mut Lock) -> T) -> T {
        let ((changed, before, after), was_there, is_there) =
            self.state.locks.alter(resource, |lock| {
                let before = Follows::from(&*lock);
                let changed = change(lock);
                ((changed, before, Follows::from(&*lock)), !lock.is_empty())
            });
        match (was_there, is_there) {
            (false, false) => {}
            (false, true) => self.touched.lock_made(resource.clone()),
            (true, false) => self.touched.lock_dropped(resource.clone()),
            (true, true) => self.touched.insert(RecordKey::Lock(resource.clone())),
        }
        if before != after {
            self.index.unfollow(&before);
            self.index.follow(&after, resource);
        }
        changed
    }

    /// Changes what an identity is counted with, and the sum.
    fn count(&mut self, identity: &IdentityId, change: impl Fn(&mut Counts)) {
        change(&mut self.index.total);
        let Some(counts) = self.index.counts.get_mut(identity) else {
            let mut counts = Counts::default();
            change(&mut counts);
            self.index.counts.insert(identity.clone(), counts);
            return;
        };
        change(counts);
        if *counts == Counts::default() {
            self.index.counts.remove(identity);
        }
    }

    fn counts(&self, identity: &IdentityId) -> Counts {
        let counts = self.index.counts.get(identity);
        counts.copied().unwrap_or_default()
    }
}

/// What follows from a lock as a whole.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Follows {
    /// When its lease ends, with the fencing token, and whether somebody attached waits for it.
    lease: Option<((u64, u64), bool)>,
    /// The place of the first that can be granted, if nothing is in the way.
    to_grant: Option<u64>,
}

impl From<&Lock> for Follows {
    fn from(lock: &Lock) -> Self {
        let first = lock.queue.first_attached();
        match lock.grants.current() {
            Some(grant) => Self {
                lease: Some(((grant.expires_at_ms, grant.fencing_token), first.is_some())),
                to_grant: None,
            },
            None => Self {
                lease: None,
                to_grant: first,
            },
        }
    }
}

impl Index {
    fn follow(&mut self, follows: &Follows, resource: &Resource) {
        if let Some((at, contended)) = follows.lease {
            let leases = self.deadlines.leases(contended);
            leases.insert(at, resource.clone());
        }
        if let Some(place) = follows.to_grant {
            self.to_grant.insert(place, resource.clone());
        }
    }

    fn unfollow(&mut self, follows: &Follows) {
        if let Some((at, contended)) = follows.lease {
            self.deadlines.leases(contended).remove(&at);
        }
        if let Some(place) = follows.to_grant {
            self.to_grant.remove(&place);
        }
    }
}

fn refused(refusal: Refusal) -> Outcome {
    Outcome::Refused(refusal)
}
