//! Looking, without changing anything.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Bound;

use super::{Frozen, LockTable, State};
use crate::command::{KeyHash, KeyId, LicenceId, Member, NodeId, OpId};
use crate::grant::Grant;
use crate::licence::{ApiKeyView, FoundKey, LicenceView, Standing};
use crate::names::{Holder, IdentityId, Key, Resource};
use crate::outcome::{Granted, Refusal};
use crate::record::Lock;
use crate::view::{LockView, LocksPage};

/// How one acquire stands, for a node that missed events: it installed a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachmentState {
    /// In line; an event will follow.
    Waiting,
    /// Its wait goes on without it, because its node was taken for dead:
    /// [`crate::command::Action::Reattach`] brings it back.
    Detached,
    /// Its uuid holds the lock: what the same acquire would be told if it came again now.
    Holds(Granted),
    /// Never applied, abandoned, or its wait ended without a grant that still stands.
    Gone,
}

impl LockTable {
    /// Cluster time, in ms.
    pub fn now_ms(&self) -> u64 {
        self.state.meta.now_ms
    }

    /// The newest wall clock of any stamp, in ms since 1970; 0 before the first.
    pub fn wall_ms(&self) -> u64 {
        self.state.meta.wall_ms
    }

    /// The first cluster time at which something is over: a lease, a wait, a detached place or an
    /// idempotency record. Not after [`LockTable::now_ms`] while the table is behind: the next
    /// [`crate::command::Action::Expire`] has something to do.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        if self.is_behind() {
            return Some(self.now_ms());
        }
        let first_ms = self.index.deadlines.first_ms()?;
        Some(first_ms.saturating_add(1))
    }

    /// Leases in all.
    pub fn live_leases(&self) -> usize {
        self.index.total.leases
    }

    /// Waiters in all, detached ones included.
    pub fn waiting(&self) -> usize {
        self.index.total.waiters
    }

    /// Idempotency records in all.
    pub fn idempotency_keys(&self) -> usize {
        self.state.idempotency.len()
    }

    /// The fencing token that the next grant will have.
    pub fn next_fencing_token(&self) -> u64 {
        self.state.meta.next_token
    }

    /// Whose an API key is; `None` if it is unknown or deleted.
    pub fn api_key(&self, hash: &KeyHash) -> Option<FoundKey> {
        let key = self.state.api_keys.get(hash)?;
        let licence = self.state.licences.get(&key.licence)?;
        Some(FoundKey {
            id: key.id,
            licence: key.licence,
            identity: licence.identity.clone(),
            standing: licence.standing(self.wall_ms()),
        })
    }

    /// Whether operations with this API key are taken.
    pub fn check_key(&self, id: KeyId) -> Result<(), Refusal> {
        let licence = self.index.accounts.licence_of(id);
        let licence = licence.ok_or(Refusal::Unauthorized)?;
        let licence = self.state.licences.get(&licence);
        let licence = licence.ok_or(Refusal::Unauthorized)?;
        let is_active = licence.standing(self.wall_ms()).is_active();
        is_active.then_some(()).ok_or(Refusal::LicenceInactive)
    }

    /// How the licence with this licence key stands; `None` if there is none.
    pub fn licence_key(&self, hash: &KeyHash) -> Option<Standing> {
        let id = self.index.accounts.by_key.get(hash)?;
        let licence = self.state.licences.get(id)?;
        Some(licence.standing(self.wall_ms()))
    }

    /// Whether [`crate::command::Action::AddApiKey`] would be refused: the operator's own keys for
    /// this identity are taken no longer, or this one was deleted.
    pub fn is_refused(&self, hash: &KeyHash, identity: &IdentityId) -> bool {
        if self.index.accounts.deleted.contains(hash) {
            return true;
        }
        let id = self.index.accounts.built_in.get(identity);
        let licence = id.and_then(|id| self.state.licences.get(id));
        licence.is_some_and(|licence| !licence.standing(self.wall_ms()).is_active())
    }

    /// A licence, as it is at `wall_ms` or at the newest entry's wall clock, whichever is later.
    pub fn licence(&self, id: LicenceId, wall_ms: u64) -> Option<LicenceView> {
        let licence = self.state.licences.get(&id)?;
        let wall_ms = wall_ms.max(self.wall_ms());
        let keys = self.index.accounts.keys_of.get(&id);
        Some(LicenceView {
            id,
            name: licence.name.clone(),
            identity: licence.identity.clone(),
            limit: licence.limit,
            period: licence.period,
            expires_ms: licence.expires_ms,
            created_ms: licence.created_ms,
            revoked_ms: licence.revoked_ms,
            standing: licence.standing(wall_ms),
            is_built_in: licence.key.is_none(),
            usage: licence.usage.at(wall_ms),
            wall_ms,
            api_keys: keys.map_or(0, std::collections::BTreeSet::len),
        })
    }

    /// The licences after `after`, in the order in which they were created, at most `limit`. Time as
    /// for [`LockTable::licence`].
    pub fn licences(
        &self,
        after: Option<LicenceId>,
        limit: usize,
        wall_ms: u64,
    ) -> Vec<LicenceView> {
        let first = after
            .map_or(0, |LicenceId(number)| number)
            .saturating_add(1);
        let numbers = first..self.state.meta.next_licence;
        let all = numbers.filter_map(|number| self.licence(LicenceId(number), wall_ms));
        all.take(limit).collect()
    }

    /// The API keys of a licence, in the order in which they were made: at most
    /// [`crate::limits::API_KEYS_PER_LICENCE_MAX`].
    pub fn api_keys_of(&self, id: LicenceId) -> Vec<ApiKeyView> {
        let accounts = &self.index.accounts;
        let keys = accounts.keys_of.get(&id).into_iter().flatten();
        let hashes = keys.filter_map(|key| accounts.hash_of(*key));
        let keys = hashes.filter_map(|hash| self.state.api_keys.get(&hash));
        keys.map(|key| ApiKeyView {
            id: key.id,
            created_ms: key.created_ms,
            used_ms: key.used_ms,
        })
        .collect()
    }

    /// API keys in all.
    pub fn api_keys(&self) -> usize {
        self.state.api_keys.len()
    }

    /// A held lock; `None` if the resource is free.
    pub fn lock(&self, resource: &Resource) -> Option<LockView> {
        let lock = self.state.locks.get(resource)?;
        self.state.view(&resource.key, lock)
    }

    /// A member.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.state.members.get(&node)
    }

    /// Every member ever recorded, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.state.members.values()
    }

    /// What is shown before each resource, once the cluster is founded.
    pub fn global_prefix(&self) -> Option<&str> {
        self.state.meta.global_prefix.as_deref()
    }

    /// Every node that has acquires attached to waits, with the newest boot that has: what a leader
    /// proposes [`crate::command::Action::DetachNode`] for once it no longer hears from the node.
    pub fn attached_nodes(&self) -> impl Iterator<Item = (NodeId, u64)> {
        self.index.ties.nodes()
    }

    /// How one acquire stands, by the tie it has (or had) to a wait or a grant.
    pub fn attachment(
        &self,
        operation: OpId,
        resource: &Resource,
        holder: &Holder,
    ) -> AttachmentState {
        if self.index.ties.get(operation).is_some() {
            return AttachmentState::Waiting;
        }
        if self.index.ties.detached(operation).is_some() {
            return AttachmentState::Detached;
        }
        let lock = self.state.locks.get(resource);
        let grant = lock.and_then(|lock| self.state.grant_of(lock));
        // Where another request alone was told of the grant, its hang-up gives it back: this one must
        // ask for it through the log.
        let its_own = |grant: &&Grant| match &grant.newest {
            Some(newest) => newest.operation() == operation,
            None => grant.holder == *holder,
        };
        match grant.filter(its_own) {
            Some(grant) => AttachmentState::Holds(Granted {
                holder: grant.holder.clone(),
                fencing_token: grant.fencing_token,
                expires_in_ms: grant.expires_at_ms - self.now_ms(),
                waited_ms: 0,
                attempts: grant.attempts,
            }),
            None => AttachmentState::Gone,
        }
    }

    /// The number of a uuid's place in line, its callers gone or not; `None` if it has none. Unique,
    /// and rising in the order of the line.
    pub fn place_in_line(&self, resource: &Resource, holder: &Holder) -> Option<u64> {
        self.waiter(resource, holder).map(|waiter| waiter.place)
    }
}

impl State {
    /// A held lock; `None` if what holds it is over.
    fn view(&self, key: &Key, lock: &Lock) -> Option<LockView> {
        let grant = self.grant_of(lock)?;
        Some(LockView {
            key: key.clone(),
            fencing_token: grant.fencing_token,
            expires_in_ms: grant.expires_at_ms - self.meta.now_ms,
            waiting: lock.queue.waiting() as u64,
            fifo: grant.fifo,
        })
    }
}

impl Frozen {
    /// The held locks of an identity whose keys start with `prefix` and come after `after`, at most
    /// `limit` of them (at least 1). Costs the number of parts that have a lock and what is returned:
    /// milliseconds in a big table, which is why only a view can be asked.
    pub fn locks(
        &self,
        identity: &IdentityId,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> LocksPage {
        let mut page = LocksPage {
            locks: Vec::new(),
            next_after: None,
        };
        let Some(first) = first_key(prefix) else {
            return page;
        };
        let from = match after {
            Some(after) if *after >= first => Bound::Excluded(after.clone()),
            _ => Bound::Included(first),
        };
        let from = from.map(|key| Resource {
            identity: identity.clone(),
            key,
        });
        let range = (from, Bound::Unbounded);
        // A merge of the shards: each yields its locks in order.
        let mut shards: Vec<_> = self
            .0
            .locks
            .ranges(&range)
            .map(|range| {
                range
                    .take_while(|(resource, _)| {
                        resource.identity == *identity && resource.key.as_str().starts_with(prefix)
                    })
                    .filter_map(|(resource, lock)| self.0.view(&resource.key, lock))
            })
            .collect();
        let mut heads = BinaryHeap::new();
        let mut views: Vec<Option<LockView>> = Vec::new();
        for (shard, locks) in shards.iter_mut().enumerate() {
            let view = locks.next();
            heads.extend(view.as_ref().map(|view| Reverse((view.key.clone(), shard))));
            views.push(view);
        }
        while let Some(Reverse((_, shard))) = heads.pop() {
            if page.locks.len() >= limit.max(1) {
                page.next_after = page.locks.last().map(|view| view.key.clone());
                break;
            }
            let next = shards[shard].next();
            heads.extend(next.as_ref().map(|view| Reverse((view.key.clone(), shard))));
            page.locks
                .extend(std::mem::replace(&mut views[shard], next));
        }
        page
    }
}

/// The first key that can start with `prefix`; `None` if no key can.
fn first_key(prefix: &str) -> Option<Key> {
    // Keys have no control characters, so none comes before a blank.
    let first = if prefix.is_empty() { " " } else { prefix };
    Key::new(first).ok()
}
