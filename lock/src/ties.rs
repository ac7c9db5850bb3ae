//! Which wait each acquire is attached to, or was detached from. Derived from the state, never kept.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{NodeId, OpId};
use crate::names::Resource;

/// A wait: its resource and place.
type Wait = (Resource, u64);

/// The attached acquires of one node that were attached under the same number of detachments: boot
/// and sequence of each.
type Group = BTreeMap<(u64, u64), Wait>;

/// Every attachment. A node's are told apart by how often its callers had been detached when each
/// was made, so that detaching them all is one number that changes: see [`crate::session::Session`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ties {
    groups: BTreeMap<(NodeId, u64), Group>,
    /// The groups that were detached since, and whose waits do not know it yet. None is empty.
    over: BTreeSet<(NodeId, u64)>,
    /// The acquires that were detached and may come back, each with the wait that remembers it.
    detached: BTreeMap<OpId, Wait>,
}

impl Ties {
    pub(crate) fn insert(&mut self, operation: OpId, generation: u64, wait: Wait) {
        self.detached.remove(&operation);
        let group = self.groups.entry((operation.node, generation)).or_default();
        group.insert((operation.boot, operation.sequence), wait);
    }

    pub(crate) fn get(&self, operation: OpId) -> Option<&Wait> {
        let at = (operation.boot, operation.sequence);
        let groups = self.groups_of(operation.node);
        groups.rev().find_map(|(_, group)| group.get(&at))
    }

    /// The wait that an acquire was detached from, if it may still come back.
    pub(crate) fn detached(&self, operation: OpId) -> Option<&Wait> {
        self.detached.get(&operation)
    }

    pub(crate) fn set_detached(&mut self, operation: OpId, wait: Wait) {
        self.detached.insert(operation, wait);
    }

    /// Forgets an acquire; returned is the wait that it was attached to.
    pub(crate) fn remove(&mut self, operation: OpId) -> Option<Wait> {
        self.detached.remove(&operation);
        let at = (operation.boot, operation.sequence);
        let mut groups = self.groups_of(operation.node).rev();
        let (key, _) = groups.find(|(_, group)| group.contains_key(&at))?;
        let key = *key;
        let group = self.groups.get_mut(&key)?;
        let wait = group.remove(&at);
        if group.is_empty() {
            self.groups.remove(&key);
            self.over.remove(&key);
        }
        wait
    }

    /// From now on all that a node has attached below this number of detachments is over.
    pub(crate) fn detach(&mut self, node: NodeId, detachments: u64) {
        let groups = self.groups.range((node, 0)..(node, detachments));
        self.over.extend(groups.map(|(key, _)| *key));
    }

    pub(crate) fn has_over(&self) -> bool {
        !self.over.is_empty()
    }

    /// The wait of the first attachment that is over and still counted with it.
    pub(crate) fn first_over(&self) -> Option<&Wait> {
        let group = self.groups.get(self.over.first()?)?;
        group.values().next()
    }

    /// Every node that has acquires attached which are not over, with the newest boot that has.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (NodeId, u64)> {
        let groups = self.groups.iter();
        let standing = groups.filter(|(key, _)| !self.over.contains(key));
        standing.filter_map(|((node, _), group)| {
            let ((boot, _), _) = group.last_key_value()?;
            Some((*node, *boot))
        })
    }

    fn groups_of(
        &self,
        node: NodeId,
    ) -> std::collections::btree_map::Range<'_, (NodeId, u64), Group> {
        self.groups.range((node, 0)..=(node, u64::MAX))
    }
}
