//! What changed since it was last asked for.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

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
#[derive(Debug, Clone, Default)]
pub struct Changes(BTreeMap<RecordKey, Known>);

impl Changes {
    /// A record was made or changed.
    pub(crate) fn insert(&mut self, key: RecordKey) {
        self.0.entry(key).or_insert(Known::Yes);
    }

    /// A record was made that was not there just before.
    pub(crate) fn made(&mut self, key: RecordKey) {
        // One that was dropped since is known, whatever became of it.
        self.0.entry(key).or_insert(Known::No);
    }

    /// A record was dropped.
    pub(crate) fn dropped(&mut self, key: RecordKey) {
        match self.0.entry(key) {
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
    pub(crate) fn forget(&mut self, key: &RecordKey) {
        self.0.remove(key);
    }

    /// Whether this record is among them.
    pub fn contains(&self, key: &RecordKey) -> bool {
        self.0.contains_key(key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In order.
    pub fn keys(&self) -> impl Iterator<Item = &RecordKey> {
        self.0.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn licence(number: u64) -> RecordKey {
        RecordKey::Licence(crate::command::LicenceId(number))
    }

    #[test]
    fn what_was_made_and_dropped_in_between_never_was() {
        let mut changes = Changes::default();
        changes.made(licence(1));
        changes.insert(licence(1));
        changes.dropped(licence(1));
        assert!(changes.is_empty());
    }

    #[test]
    fn what_was_there_before_and_is_dropped_is_told() {
        let mut changes = Changes::default();
        changes.insert(licence(2));
        changes.dropped(licence(2));
        changes.dropped(licence(1));
        // Made again and dropped again: whoever knew it has to be told all the same.
        changes.made(licence(1));
        changes.dropped(licence(1));
        assert!(changes.keys().eq([&licence(1), &licence(2)]));
    }
}
