//! A part of a big map: a sorted list while it is small, a tree where somebody's choice of keys has
//! made it large.
//!
//! A tree leaves a third to half of its memory unused, and reading or copying it goes from node to
//! node; but adding to a list costs what comes behind.

use std::collections::btree_map::{self, BTreeMap, Entry};
use std::ops::{Bound, RangeBounds};
use std::slice;

/// So many entries are a list: at 1,000,000 in all a part has about sixty. One more makes a tree of it
/// for as long as it has any.
const LIST_MAX: usize = 256;

/// A list takes room for so many more entries at a time, and gives back what is twice as much.
const ROOM: usize = 4;

/// The map.
#[derive(Debug)]
pub(crate) enum Part<K, V> {
    /// In the keys' order.
    List(Vec<(K, V)>),
    Tree(BTreeMap<K, V>),
}

/// Entries in the keys' order.
pub(crate) enum Entries<'a, K, V> {
    List(slice::Iter<'a, (K, V)>),
    Tree(btree_map::Iter<'a, K, V>),
    Range(btree_map::Range<'a, K, V>),
}

impl<'a, K, V> Iterator for Entries<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Entries::List(entries) => entries.next().map(|(key, value)| (key, value)),
            Entries::Tree(entries) => entries.next(),
            Entries::Range(entries) => entries.next(),
        }
    }
}

impl<K, V> Default for Part<K, V> {
    fn default() -> Self {
        Part::List(Vec::new())
    }
}

impl<K: Clone, V: Clone> Clone for Part<K, V> {
    fn clone(&self) -> Self {
        match self {
            Part::List(list) => Part::List(list.clone()),
            Part::Tree(tree) => Part::Tree(tree.clone()),
        }
    }
}

/// By what is in them: which form they have depends on what was in them before.
impl<K: PartialEq, V: PartialEq> PartialEq for Part<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<K: Eq, V: Eq> Eq for Part<K, V> {}

impl<K, V> Part<K, V> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Part::List(list) => list.len(),
            Part::Tree(tree) => tree.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn iter(&self) -> Entries<'_, K, V> {
        match self {
            Part::List(list) => Entries::List(list.iter()),
            Part::Tree(tree) => Entries::Tree(tree.iter()),
        }
    }
}

impl<K: Ord, V> Part<K, V> {
    pub(crate) fn range(&self, range: &impl RangeBounds<K>) -> Entries<'_, K, V> {
        let list = match self {
            Part::List(list) => list,
            Part::Tree(tree) => {
                let bounds = (range.start_bound(), range.end_bound());
                return Entries::Range(tree.range::<K, _>(bounds));
            }
        };
        let start = match range.start_bound() {
            Bound::Included(key) => list.partition_point(|(k, _)| k < key),
            Bound::Excluded(key) => list.partition_point(|(k, _)| k <= key),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(key) => list.partition_point(|(k, _)| k <= key),
            Bound::Excluded(key) => list.partition_point(|(k, _)| k < key),
            Bound::Unbounded => list.len(),
        };
        Entries::List(list[start..end].iter())
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        match self {
            Part::List(list) => Some(&list[find(list, key).ok()?].1),
            Part::Tree(tree) => tree.get(key),
        }
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self {
            Part::List(list) => {
                let at = find(list, key).ok()?;
                Some(&mut list[at].1)
            }
            Part::Tree(tree) => tree.get_mut(key),
        }
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self {
            Part::List(list) => match find(list, &key) {
                Ok(at) => Some(std::mem::replace(&mut list[at].1, value)),
                Err(at) => {
                    self.add(at, key, value);
                    None
                }
            },
            Part::Tree(tree) => tree.insert(key, value),
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        match self {
            Part::List(list) => Some(take(list, find(list, key).ok()?)),
            Part::Tree(tree) => {
                let removed = tree.remove(key);
                self.settle();
                removed
            }
        }
    }

    /// Changes the value of a key, which is made if it is not there and dropped if `change` says that
    /// it is not to stay. Also tells whether it was there before, and whether it is now.
    pub(crate) fn alter<T>(
        &mut self,
        key: &K,
        change: impl FnOnce(&mut V) -> (T, bool),
    ) -> (T, bool, bool)
    where
        K: Clone,
        V: Default,
    {
        let list = match self {
            Part::List(list) => list,
            Part::Tree(tree) => {
                let altered = alter_in_tree(tree, key, change);
                self.settle();
                return altered;
            }
        };
        match find(list, key) {
            Ok(at) => {
                let (changed, stays) = change(&mut list[at].1);
                if !stays {
                    take(list, at);
                }
                (changed, true, stays)
            }
            Err(at) => {
                let mut value = V::default();
                let (changed, stays) = change(&mut value);
                if stays {
                    self.add(at, key.clone(), value);
                }
                (changed, false, stays)
            }
        }
    }

    /// Adds to a list, at the place where it belongs.
    fn add(&mut self, at: usize, key: K, value: V) {
        let Part::List(list) = self else {
            return;
        };
        if list.len() == LIST_MAX {
            let mut tree: BTreeMap<K, V> = std::mem::take(list).into_iter().collect();
            tree.insert(key, value);
            *self = Part::Tree(tree);
            return;
        }
        if list.len() == list.capacity() {
            list.reserve_exact(ROOM);
        }
        list.insert(at, (key, value));
    }

    /// An empty tree is a list again.
    fn settle(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

fn find<K: Ord, V>(list: &[(K, V)], key: &K) -> Result<usize, usize> {
    list.binary_search_by(|(k, _)| k.cmp(key))
}

fn take<K, V>(list: &mut Vec<(K, V)>, at: usize) -> V {
    let (_, value) = list.remove(at);
    if list.capacity() - list.len() >= 2 * ROOM {
        list.shrink_to(list.len() + ROOM);
    }
    value
}

fn alter_in_tree<K: Ord + Clone, V: Default, T>(
    tree: &mut BTreeMap<K, V>,
    key: &K,
    change: impl FnOnce(&mut V) -> (T, bool),
) -> (T, bool, bool) {
    match tree.entry(key.clone()) {
        Entry::Occupied(mut entry) => {
            let (changed, stays) = change(entry.get_mut());
            if !stays {
                entry.remove();
            }
            (changed, true, stays)
        }
        Entry::Vacant(entry) => {
            let mut value = V::default();
            let (changed, stays) = change(&mut value);
            if stays {
                entry.insert(value);
            }
            (changed, false, stays)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u16, u8),
        Remove(u16),
        Alter(u16, u8, bool),
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let key = 0..600_u16;
        let step = prop_oneof![
            6 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
            2 => key.clone().prop_map(Step::Remove),
            3 => (key, any::<u8>(), any::<bool>())
                .prop_map(|(key, value, stays)| Step::Alter(key, value, stays)),
            1 => Just(Step::Clear),
        ];
        // Few are cleared, so that many grow beyond a list.
        proptest::collection::vec(step, 0..1500).prop_map(|steps| {
            let mut left = 2;
            let keep = |step: &Step| {
                !matches!(step, Step::Clear) || {
                    left -= 1;
                    left >= 0
                }
            };
            steps.into_iter().filter(keep).collect()
        })
    }

    proptest! {
        #[test]
        fn it_does_what_a_tree_does(steps in steps(), from in 0..600_u16, to in 0..600_u16) {
            let mut part = Part::default();
            let mut tree = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        prop_assert_eq!(part.insert(key, value), tree.insert(key, value));
                    }
                    Step::Remove(key) => prop_assert_eq!(part.remove(&key), tree.remove(&key)),
                    Step::Alter(key, to, stays) => {
                        let change = |value: &mut u8| {
                            let before = std::mem::replace(value, to);
                            (before, stays)
                        };
                        let before = tree.contains_key(&key);
                        let altered = (tree.get(&key).copied().unwrap_or_default(), before, stays);
                        prop_assert_eq!(part.alter(&key, change), altered);
                        if stays {
                            tree.insert(key, to);
                        } else {
                            tree.remove(&key);
                        }
                    }
                    Step::Clear => {
                        for key in std::mem::take(&mut tree).into_keys() {
                            part.remove(&key);
                        }
                        prop_assert!(matches!(part, Part::List(_)));
                    }
                }
            }
            prop_assert!(part.iter().eq(&tree));
            prop_assert_eq!((part.len(), part.is_empty()), (tree.len(), tree.is_empty()));
            let range = (Bound::Excluded(from.min(to)), Bound::Included(from.max(to) + 1));
            prop_assert!(part.range(&range).eq(tree.range(range)));
            prop_assert_eq!(part.get(&from), tree.get(&from));
            prop_assert_eq!(part.get_mut(&to), tree.get_mut(&to));
            // The same entries in the other form are the same.
            let other = match &part {
                Part::List(list) => Part::Tree(list.iter().copied().collect()),
                Part::Tree(tree) => Part::List(tree.iter().map(|(k, v)| (*k, *v)).collect()),
            };
            prop_assert!(part == other && part.clone() == other);
        }
    }

    #[test]
    fn a_list_gives_back_what_it_has_too_much() {
        let mut part: Part<usize, u8> = Part::default();
        for key in 0..LIST_MAX {
            part.insert(key, 0);
        }
        for key in 0..LIST_MAX - 10 {
            part.remove(&key);
        }
        let Part::List(list) = part else {
            panic!("a tree of {LIST_MAX}");
        };
        assert_eq!(list.len(), 10);
        assert!(list.capacity() < 10 + 2 * ROOM, "{}", list.capacity());
    }
}
