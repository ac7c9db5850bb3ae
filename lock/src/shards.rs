//! A big map in a fixed number of parts, in groups: freezing it costs the number of groups,
//! and a write after that copies one group's pointers and one part.

use std::hash::Hasher;
use std::ops::RangeBounds;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use crate::command::{KeyHash, LicenceId};
use crate::idempotency::IdempotencyId;
use crate::names::Resource;
use crate::part::{Entries, Part};

/// Groups of a map.
const GROUPS: usize = 128;

/// Parts of a group.
const PARTS: usize = 128;

/// Parts of a map. At 1,000,000 entries each has about sixty: copying one, whose entries are all
/// over memory, takes some 10 us, and a batch of 64 entries may have to copy 64.
pub(crate) const SHARDS: usize = GROUPS * PARTS;

/// Decides which part each key belongs to. Drawn at random by each node when it starts and told to
/// no one: who chooses keys cannot choose keys of one part. What a table answers does not depend on
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HashKey(pub [u8; 16]);

impl HashKey {
    /// SipHash-1-3 (Aumasson and Bernstein 2012, "`SipHash`: a fast short-input PRF"), as Rust's own
    /// maps use it.
    fn hash(self, parts: [&[u8]; 2]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        for part in parts {
            hasher.write(part);
            // 0xff occurs in no UTF-8 text, so it keeps ("ab", "c") apart from ("a", "bc").
            hasher.write(&[0xff]);
        }
        hasher.finish()
    }
}

/// A key that says which part it belongs to.
pub(crate) trait ShardKey: Ord + Clone {
    fn shard_hash(&self, key: HashKey) -> u64;
}

impl ShardKey for Resource {
    fn shard_hash(&self, key: HashKey) -> u64 {
        key.hash([
            self.identity.as_str().as_bytes(),
            self.key.as_str().as_bytes(),
        ])
    }
}

impl ShardKey for IdempotencyId {
    fn shard_hash(&self, key: HashKey) -> u64 {
        // Which operation is left out: at most three names meet for it.
        key.hash([
            self.identity.as_str().as_bytes(),
            self.key.as_str().as_bytes(),
        ])
    }
}

impl ShardKey for KeyHash {
    fn shard_hash(&self, key: HashKey) -> u64 {
        key.hash([&self.0, &[]])
    }
}

/// Numbers that count up need no hash to be spread.
impl ShardKey for LicenceId {
    fn shard_hash(&self, _: HashKey) -> u64 {
        self.0
    }
}

/// Parts that are copied together as pointers.
#[derive(Debug, Clone)]
struct Group<K, V> {
    parts: Vec<Arc<Part<K, V>>>,
    /// Entries in all parts: an empty group is passed over.
    len: usize,
}

impl<K, V> Group<K, V> {
    fn parts(&self) -> impl Iterator<Item = &Part<K, V>> {
        let parts = self.parts.iter().filter(|part| !part.is_empty());
        parts.map(AsRef::as_ref)
    }
}

/// The map. A clone shares everything with its original until one of them writes.
#[derive(Debug, Clone)]
pub(crate) struct Shards<K, V> {
    hash_key: HashKey,
    groups: Vec<Arc<Group<K, V>>>,
    len: usize,
}

/// By the entries: which parts they are in depends on the hash key.
impl<K: ShardKey, V: Clone + PartialEq> PartialEq for Shards<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len
            && self
                .iter()
                .all(|(key, value)| other.get(key) == Some(value))
    }
}

impl<K: ShardKey, V: Clone + Eq> Eq for Shards<K, V> {}

/// Where a key belongs.
struct At {
    group: usize,
    part: usize,
}

impl At {
    fn of(key: &impl ShardKey, hash_key: HashKey) -> Self {
        let hash = key.shard_hash(hash_key);
        // The remainder is below SHARDS, so nothing is cut off.
        let shard = usize::try_from(hash % SHARDS as u64).expect("below SHARDS");
        Self {
            group: shard / PARTS,
            part: shard % PARTS,
        }
    }
}

impl<K: ShardKey, V: Clone> Shards<K, V> {
    pub(crate) fn new(hash_key: HashKey) -> Self {
        // One empty part and one empty group stand for all until they are written to.
        let group = Arc::new(Group {
            parts: vec![Arc::default(); PARTS],
            len: 0,
        });
        Self {
            hash_key,
            groups: vec![group; GROUPS],
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let at = At::of(key, self.hash_key);
        self.groups[at.group].parts[at.part].get(key)
    }

    /// Changes a part, copied first if it is shared. `change` says how many entries came or went.
    fn change<T>(&mut self, at: &At, change: impl FnOnce(&mut Part<K, V>) -> (T, isize)) -> T {
        let group = Arc::make_mut(&mut self.groups[at.group]);
        let (changed, came) = change(Arc::make_mut(&mut group.parts[at.part]));
        group.len = group.len.strict_add_signed(came);
        self.len = self.len.strict_add_signed(came);
        changed
    }

    /// Copies the part if it is shared, and only if the key is there.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = At::of(key, self.hash_key);
        self.groups[at.group].parts[at.part].get(key)?;
        let group = Arc::make_mut(&mut self.groups[at.group]);
        Arc::make_mut(&mut group.parts[at.part]).get_mut(key)
    }

    /// See [`Part::alter`].
    pub(crate) fn alter<T>(
        &mut self,
        key: &K,
        change: impl FnOnce(&mut V) -> (T, bool),
    ) -> (T, bool, bool)
    where
        V: Default,
    {
        self.change(&At::of(key, self.hash_key), |part| {
            let altered = part.alter(key, change);
            let (_, before, after) = altered;
            (altered, isize::from(after) - isize::from(before))
        })
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.change(&At::of(&key, self.hash_key), |part| {
            let before = part.insert(key, value);
            let came = isize::from(before.is_none());
            (before, came)
        })
    }

    /// Copies the part if it is shared, and only if the key is there.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let at = At::of(key, self.hash_key);
        self.groups[at.group].parts[at.part].get(key)?;
        self.change(&at, |part| (part.remove(key), -1))
    }

    /// Every part with anything in it.
    fn parts(&self) -> impl Iterator<Item = &Part<K, V>> {
        let groups = self.groups.iter().filter(|group| group.len > 0);
        groups.flat_map(|group| group.parts())
    }

    /// Every entry, part by part: a fixed order, but not the keys' order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.parts().flat_map(Part::iter)
    }

    /// The same entries, each part let go of before the next is begun: what is shared with a table
    /// that goes on need not be copied for it any longer.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = (K, V)> {
        let groups = self.groups.into_iter().filter(|group| group.len > 0);
        let parts = groups.flat_map(|group| Arc::unwrap_or_clone(group).parts);
        parts.flat_map(|part| {
            let entries = part.iter().map(|(key, value)| (key.clone(), value.clone()));
            entries.collect::<Vec<_>>()
        })
    }

    /// The range in each part, each in the keys' order.
    pub(crate) fn ranges<R: RangeBounds<K> + Clone>(
        &self,
        range: &R,
    ) -> impl Iterator<Item = Entries<'_, K, V>> {
        self.parts().map(|part| part.range(range))
    }

    /// Entries in the largest part.
    #[cfg(test)]
    pub(crate) fn part_len_max(&self) -> usize {
        self.parts().map(Part::len).max().unwrap_or(0)
    }

    /// How many parts are not the same memory in both.
    #[cfg(test)]
    pub(crate) fn parts_apart(&self, other: &Self) -> usize {
        let groups = self.groups.iter().zip(&other.groups);
        let parts = groups.flat_map(|(a, b)| a.parts.iter().zip(&b.parts));
        parts.filter(|(a, b)| !Arc::ptr_eq(a, b)).count()
    }
}
