//! What was begun and has not ended.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use super::core::lock;

/// Keys of which each is under way once at most.
#[derive(Debug)]
pub(crate) struct UnderWay<K: Ord>(Arc<Mutex<BTreeSet<K>>>);

/// Under way, until this is dropped.
#[derive(Debug)]
pub(crate) struct Begun<K: Ord> {
    all: Arc<Mutex<BTreeSet<K>>>,
    key: K,
}

impl<K: Ord> Default for UnderWay<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Ord + Clone> UnderWay<K> {
    /// `None`: it is under way already.
    pub(crate) fn begin(&self, key: K) -> Option<Begun<K>> {
        let is_first = lock(&self.0).insert(key.clone());
        is_first.then(|| Begun {
            all: Arc::clone(&self.0),
            key,
        })
    }
}

impl<K: Ord> Drop for Begun<K> {
    fn drop(&mut self) {
        lock(&self.all).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_under_way_once_until_it_ends() {
        let under_way = UnderWay::default();
        let first = under_way.begin((2, 7));
        assert!(first.is_some());
        assert!(under_way.begin((2, 7)).is_none());
        let other = under_way.begin((2, 8));
        assert!(other.is_some());
        drop(first);
        assert!(under_way.begin((2, 7)).is_some());
        assert!(under_way.begin((2, 8)).is_none());
    }
}
