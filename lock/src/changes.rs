//! What changed since it was last asked for.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::command::NodeId;
use crate::names::Resource;
use crate::record::RecordKey;

/// Whether whoever keeps a copy of the table can know of a record that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Yes,
    /// It was made since: dropped again, it never was.
    No,
}

/// The names of records that were made, changed or dropped, each once, in order. Those that were
/// made and dropped in between are not among them. Bounded by what is applied in between.
///
/// What every entry changes is apart from the many locks, so as not to be looked for among them.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    meta: bool,
    locks: BTreeMap<Resource, Known>,
    /// Sessions are never dropped.
    sessions: BTreeSet<NodeId>,
    rest: BTreeMap<RecordKey, Known>,
}

impl Changes {
    /// A record was made or changed.
    pub(crate) fn insert(&mut self, key: RecordKey) {
        match key {
            RecordKey::Meta => self.meta = true,
            RecordKey::Session(node) => {
                self.sessions.insert(node);
            }
            RecordKey::Lock(resource) => {
                self.locks.entry(resource).or_insert(Known::Yes);
            }
            key => {
                self.rest.entry(key).or_insert(Known::Yes);
            }
        }
    }

    /// A lock was made that was not there just before.
    pub(crate) fn lock_made(&mut self, resource: Resource) {
        // One that was dropped since is known, whatever became of it.
        self.locks.entry(resource).or_insert(Known::No);
    }

    /// A lock was dropped.
    pub(crate) fn lock_dropped(&mut self, resource: Resource) {
        match self.locks.entry(resource) {
            Entry::Occupied(entry) if *entry.get() == Known::No => {
                entry.remove();
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(entry) => {
                entry.insert(Known::Yes);
            }
        }
    }

    #[cfg(evermind_mutants)]
    pub(crate) fn forget_lock(&mut self, resource: &Resource) {
        self.locks.remove(resource);
    }

    /// Whether this lock is among them.
    #[cfg(evermind_mutants)]
    pub(crate) fn has_lock(&self, resource: &Resource) -> bool {
        self.locks.contains_key(resource)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.meta) + self.locks.len() + self.sessions.len() + self.rest.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In order.
    pub fn keys(&self) -> impl Iterator<Item = RecordKey> {
        let meta = self.meta.then_some(RecordKey::Meta).into_iter();
        let locks = self.locks.keys().cloned().map(RecordKey::Lock);
        let sessions = self.sessions.iter().copied().map(RecordKey::Session);
        let rest = self.rest.keys().cloned();
        meta.chain(locks).chain(sessions).chain(rest)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::names::{IdentityId, Key};

    fn resource(key: &str) -> Resource {
        Resource {
            identity: IdentityId::new("me").unwrap(),
            key: Key::new(key).unwrap(),
        }
    }

    #[test]
    fn what_was_made_and_dropped_in_between_never_was() {
        let mut changes = Changes::default();
        changes.lock_made(resource("a"));
        changes.insert(RecordKey::Lock(resource("a")));
        changes.lock_dropped(resource("a"));
        assert!(changes.is_empty());
    }

    #[test]
    fn what_was_there_before_and_is_dropped_is_told() {
        let mut changes = Changes::default();
        changes.insert(RecordKey::Lock(resource("b")));
        changes.lock_dropped(resource("b"));
        changes.lock_dropped(resource("a"));
        // Made again and dropped again: whoever knew it has to be told all the same.
        changes.lock_made(resource("a"));
        changes.lock_dropped(resource("a"));
        assert!(
            changes
                .keys()
                .eq(["a", "b"].map(|key| RecordKey::Lock(resource(key))))
        );
    }

    #[test]
    fn they_are_told_in_the_order_of_their_keys() {
        let told = [
            RecordKey::Meta,
            RecordKey::Lock(resource("a")),
            RecordKey::Session(1),
            RecordKey::Session(2),
            RecordKey::Licence(crate::command::LicenceId(1)),
        ];
        let mut changes = Changes::default();
        for key in told.iter().rev() {
            changes.insert(key.clone());
        }
        assert_eq!(changes.len(), told.len());
        assert!(told.is_sorted() && changes.keys().eq(told));
    }
}
