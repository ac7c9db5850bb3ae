//! A big ordered map in a fixed number of parts, so that freezing it costs the number of parts
//! and a write after that copies one part.

use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::sync::Arc;

use crate::command::KeyHash;
use crate::idempotency::IdempotencyId;
use crate::names::Resource;

/// Parts of a map. At 1,000,000 entries each part has about a thousand: copying one is well below
/// a millisecond.
pub(crate) const SHARDS: usize = 1024;

/// A key that says which part it belongs to: the same on every node, in every build.
pub(crate) trait ShardKey: Ord + Clone {
    /// A fixed hash of the key.
    fn shard_hash(&self) -> u64;
}

/// FNV-1a (64 bits): fixed constants, hence the same everywhere, unlike std's hasher.
fn fnv1a(parts: [&[u8]; 3]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        // 0xff occurs in no UTF-8 text, so it keeps ("ab", "c") apart from ("a", "bc").
        for byte in part.iter().chain(std::iter::once(&0xff)) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    // The low bits choose the part; fold the better mixed high ones in.
    hash ^ (hash >> 32)
}

impl ShardKey for Resource {
    fn shard_hash(&self) -> u64 {
        fnv1a([
            self.identity.as_str().as_bytes(),
            self.key.as_str().as_bytes(),
            &[],
        ])
    }
}

impl ShardKey for IdempotencyId {
    fn shard_hash(&self) -> u64 {
        fnv1a([
            self.identity.as_str().as_bytes(),
            self.key.as_str().as_bytes(),
            &[self.endpoint as u8],
        ])
    }
}

impl ShardKey for KeyHash {
    fn shard_hash(&self) -> u64 {
        fnv1a([&self.0, &[], &[]])
    }
}

/// The map. A clone shares every part with its original until one of them writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shards<K, V> {
    parts: Vec<Arc<BTreeMap<K, V>>>,
    len: usize,
}

impl<K: ShardKey, V: Clone> Shards<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            parts: (0..SHARDS).map(|_| Arc::default()).collect(),
            len: 0,
        }
    }

    fn at(key: &K) -> usize {
        // The remainder is below SHARDS, so nothing is cut off.
        usize::try_from(key.shard_hash() % SHARDS as u64).expect("below SHARDS")
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.parts[Self::at(key)].get(key)
    }

    /// Copies the part if it is shared, and only if the key is there.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let part = &mut self.parts[Self::at(key)];
        if !part.contains_key(key) {
            return None;
        }
        Arc::make_mut(part).get_mut(key)
    }

    pub(crate) fn get_or_insert_with(&mut self, key: &K, value: impl FnOnce() -> V) -> &mut V {
        let part = Arc::make_mut(&mut self.parts[Self::at(key)]);
        let len = &mut self.len;
        part.entry(key.clone()).or_insert_with(|| {
            *len += 1;
            value()
        })
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let part = Arc::make_mut(&mut self.parts[Self::at(&key)]);
        let before = part.insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Copies the part if it is shared, and only if the key is there.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let part = &mut self.parts[Self::at(key)];
        if !part.contains_key(key) {
            return None;
        }
        self.len -= 1;
        Arc::make_mut(part).remove(key)
    }

    /// Every entry, part by part: a fixed order, but not the keys' order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let parts = self.parts.iter().filter(|part| !part.is_empty());
        parts.flat_map(|part| part.iter())
    }

    /// The range in each part, each in the keys' order.
    pub(crate) fn ranges<R: RangeBounds<K> + Clone>(
        &self,
        range: &R,
    ) -> impl Iterator<Item = std::collections::btree_map::Range<'_, K, V>> {
        self.parts.iter().map(|part| part.range(range.clone()))
    }

    /// Entries in the largest part.
    #[cfg(test)]
    pub(crate) fn part_len_max(&self) -> usize {
        self.parts.iter().map(|part| part.len()).max().unwrap_or(0)
    }

    /// How many parts are not the same memory in both.
    #[cfg(test)]
    pub(crate) fn parts_apart(&self, other: &Self) -> usize {
        let pairs = self.parts.iter().zip(&other.parts);
        pairs.filter(|(a, b)| !Arc::ptr_eq(a, b)).count()
    }
}
