//! Looking, without changing anything.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Bound;

use super::LockTable;
use crate::command::{KeyHash, KeyId, Member, NodeId, OpId};
use crate::grant::Grant;
use crate::names::{Holder, IdentityId, Key, Resource};
use crate::outcome::{Decision, Granted};
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

    /// When the next lease, wait, detached place or idempotency record ends, in cluster time.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.index.deadlines.next_ms()
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

    /// Whose locks an API key opens.
    pub fn api_key(&self, hash: &KeyHash) -> Option<(KeyId, &IdentityId)> {
        let key = self.state.api_keys.get(hash)?;
        Some((key.id, &key.identity))
    }

    /// API keys in all.
    pub fn api_keys(&self) -> usize {
        self.state.api_keys.len()
    }

    /// A held lock; `None` if the resource is free.
    pub fn lock(&self, resource: &Resource) -> Option<LockView> {
        self.view(&resource.key, self.state.locks.get(resource)?)
    }

    fn view(&self, key: &Key, lock: &Lock) -> Option<LockView> {
        let grant = lock.grants.current()?;
        Some(LockView {
            key: key.clone(),
            fencing_token: grant.fencing_token,
            expires_in_ms: grant.expires_at_ms - self.now_ms(),
            waiting: lock.queue.waiting() as u64,
            fifo: grant.fifo,
        })
    }

    /// The held locks of an identity whose keys start with `prefix` and come after `after`, at most
    /// `limit` of them (at least 1). Costs the number of shards and what is returned, however many locks there
    /// are.
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
            .state
            .locks
            .ranges(&range)
            .map(|range| {
                range
                    .take_while(|(resource, _)| {
                        resource.identity == *identity && resource.key.as_str().starts_with(prefix)
                    })
                    .filter_map(|(resource, lock)| self.view(&resource.key, lock))
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
        let mut last: Option<OpId> = None;
        std::iter::from_fn(move || {
            let from = last.map_or(Bound::Unbounded, Bound::Excluded);
            let (next, _) = self.index.attached.range((from, Bound::Unbounded)).next()?;
            let end = OpId {
                node: next.node,
                boot: u64::MAX,
                sequence: u64::MAX,
            };
            let (newest, _) = self.index.attached.range(..=end).next_back()?;
            last = Some(end);
            Some((newest.node, newest.boot))
        })
    }

    /// How one acquire stands, by the tie it has (or had) to a wait or a grant.
    pub fn attachment(
        &self,
        operation: OpId,
        resource: &Resource,
        holder: &Holder,
    ) -> AttachmentState {
        if self.index.attached.contains_key(&operation) {
            return AttachmentState::Waiting;
        }
        if self.detached_from(resource, operation).is_some() {
            return AttachmentState::Detached;
        }
        let lock = self.state.locks.get(resource);
        let grant = lock.and_then(|lock| lock.grants.current());
        let its_own = |grant: &&Grant| {
            let newest = grant.newest.as_ref();
            grant.holder == *holder || newest.is_some_and(|n| n.operation() == operation)
        };
        match grant.filter(its_own) {
            Some(grant) => AttachmentState::Holds(Granted {
                holder: grant.holder.clone(),
                fencing_token: grant.fencing_token,
                expires_in_ms: grant.expires_at_ms - self.now_ms(),
                waited_ms: 0,
                attempts: 1,
            }),
            None => AttachmentState::Gone,
        }
    }

    /// What came of an open operation when it was first applied; `None` if it was not, or was
    /// answered since.
    pub fn decision(&self, operation: OpId) -> Option<&Decision> {
        self.recorded(operation)
    }
}

/// The first key that can start with `prefix`; `None` if no key can.
fn first_key(prefix: &str) -> Option<Key> {
    // Keys have no control characters, so none comes before a blank.
    let first = if prefix.is_empty() { " " } else { prefix };
    Key::new(first).ok()
}
