//! What comes when, in order: sorted lists, one behind the other.
//!
//! Most of what is added comes last, because leases are alike. A tree that grows at its end leaves
//! each node half empty; here each list is filled before the next is begun.

use std::collections::BTreeMap;

/// When, and which of those that are due at the same time goes first.
pub(crate) type At = (u64, u64);

/// Entries of a list.
const LIST_MAX: usize = 64;

/// A list takes room for so many more entries at a time, and gives back what is twice as much.
const ROOM: usize = 4;

/// The agenda. Adding and removing cost a search and a move within one list.
#[derive(Debug)]
pub(crate) struct Agenda<V> {
    /// Each list by a time that is not after its first entry, and after all of the list before. None
    /// is empty.
    lists: BTreeMap<At, Vec<(At, V)>>,
}

impl<V> Default for Agenda<V> {
    fn default() -> Self {
        Self {
            lists: BTreeMap::new(),
        }
    }
}

/// By the entries: how they are cut into lists depends on how they came.
impl<V: PartialEq> PartialEq for Agenda<V> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<V: Eq> Eq for Agenda<V> {}

impl<V> Agenda<V> {
    fn iter(&self) -> impl Iterator<Item = &(At, V)> {
        self.lists.values().flatten()
    }

    /// The first entry.
    pub(crate) fn head(&self) -> Option<(At, &V)> {
        let (_, list) = self.lists.first_key_value()?;
        list.first().map(|(at, value)| (*at, value))
    }

    /// The time of the first entry.
    pub(crate) fn first(&self) -> Option<At> {
        self.head().map(|(at, _)| at)
    }

    /// Adds an entry, or replaces the one at the same time.
    pub(crate) fn insert(&mut self, at: At, value: V) {
        let Some((_, list)) = self.lists.range_mut(..=at).next_back() else {
            return self.insert_between(at, value);
        };
        let place = match list.binary_search_by_key(&at, |(at, _)| *at) {
            Ok(place) => {
                list[place].1 = value;
                return;
            }
            Err(place) => place,
        };
        if list.len() < LIST_MAX {
            add(list, place, (at, value));
        } else if place == LIST_MAX {
            self.insert_between(at, value);
        } else {
            let mut behind = list.split_off(LIST_MAX / 2);
            list.shrink_to(LIST_MAX / 2 + ROOM);
            if place <= LIST_MAX / 2 {
                add(list, place, (at, value));
            } else {
                add(&mut behind, place - LIST_MAX / 2, (at, value));
            }
            self.lists.insert(behind[0].0, behind);
        }
    }

    /// Adds an entry before a list and behind the one before that, which is full or not there.
    fn insert_between(&mut self, at: At, value: V) {
        let next = self.lists.range(at..).next();
        let next = next.map(|(key, list)| (*key, list.len() < LIST_MAX));
        let mut list = match next {
            // The next begins earlier from now on.
            Some((key, true)) => self.lists.remove(&key).unwrap_or_default(),
            Some((_, false)) => Vec::new(),
            // Behind all others, where most will follow.
            None => Vec::with_capacity(LIST_MAX),
        };
        add(&mut list, 0, (at, value));
        self.lists.insert(at, list);
    }

    /// Drops the entry of this time, if there is one.
    pub(crate) fn remove(&mut self, at: &At) -> Option<V> {
        let (key, list) = self.lists.range_mut(..=*at).next_back()?;
        let place = list.binary_search_by_key(at, |(at, _)| *at).ok()?;
        let (_, value) = take(list, place);
        if list.is_empty() {
            let key = *key;
            self.lists.remove(&key);
        }
        Some(value)
    }
}

fn add<V>(list: &mut Vec<(At, V)>, place: usize, entry: (At, V)) {
    if list.len() == list.capacity() {
        list.reserve_exact(ROOM);
    }
    list.insert(place, entry);
}

fn take<V>(list: &mut Vec<(At, V)>, place: usize) -> (At, V) {
    let entry = list.remove(place);
    if list.len() < LIST_MAX / 2 && list.capacity() - list.len() >= 2 * ROOM {
        list.shrink_to(list.len() + ROOM);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        /// One more at the end.
        Last,
        Insert(At),
        Remove(At),
        /// The first goes.
        First,
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = (0..40_u64, 0..40_u64);
        prop_oneof![
            4 => Just(Step::Last),
            4 => at.clone().prop_map(Step::Insert),
            2 => at.prop_map(Step::Remove),
            1 => Just(Step::First),
        ]
    }

    proptest! {
        #[test]
        fn it_does_what_a_tree_does(steps in proptest::collection::vec(step(), 0..2_000)) {
            let mut agenda = Agenda::default();
            let mut tree = BTreeMap::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Last => {
                        let at = (100 + number as u64, 0);
                        agenda.insert(at, number);
                        tree.insert(at, number);
                    }
                    Step::Insert(at) => {
                        agenda.insert(at, number);
                        tree.insert(at, number);
                    }
                    Step::Remove(at) => prop_assert_eq!(agenda.remove(&at), tree.remove(&at)),
                    Step::First => {
                        let first = agenda.head().map(|(at, number)| (at, *number));
                        prop_assert_eq!(first, tree.pop_first());
                        let removed = first.and_then(|(at, _)| agenda.remove(&at));
                        prop_assert_eq!(removed, first.map(|(_, number)| number));
                    }
                }
                prop_assert_eq!(agenda.first(), tree.first_key_value().map(|(at, _)| *at));
            }
            prop_assert!(agenda.iter().map(|(at, value)| (at, value)).eq(&tree));
            let fits = |list: &Vec<_>| (1..=LIST_MAX).contains(&list.len());
            prop_assert!(agenda.lists.values().all(fits));
            // However they came, the same entries are the same agenda.
            let mut again = Agenda::default();
            for (at, value) in tree.into_iter().rev() {
                again.insert(at, value);
            }
            prop_assert!(again == agenda);
        }
    }

    #[test]
    fn what_comes_in_order_fills_its_lists() {
        let mut agenda = Agenda::default();
        for number in 0..100 * LIST_MAX as u64 {
            agenda.insert((number, 0), ());
        }
        let lists: Vec<_> = agenda.lists.into_values().collect();
        assert_eq!(lists.len(), 100);
        assert!(lists.iter().all(|list| list.capacity() == LIST_MAX));
    }

    #[test]
    fn whoever_chooses_the_times_does_not_choose_the_memory() {
        let mut agenda = Agenda::default();
        let entries = 100 * LIST_MAX as u64;
        for number in 0..LIST_MAX as u64 {
            agenda.insert((number, 0), ());
        }
        // Each between a full list and all that came before.
        for number in 0..entries {
            agenda.insert((1_000_000 - number, 0), ());
        }
        let room: usize = agenda.lists.values().map(Vec::capacity).sum();
        assert!((room as u64) < 2 * entries, "room for {room}");
    }

    #[test]
    fn what_is_left_of_many_does_not_keep_their_memory() {
        let mut agenda = Agenda::default();
        for number in 0..10 * LIST_MAX as u64 {
            agenda.insert((number, 0), ());
        }
        for number in 0..10 * LIST_MAX as u64 {
            if number % 8 != 0 {
                agenda.remove(&(number, 0));
            }
        }
        let room: usize = agenda.lists.values().map(Vec::capacity).sum();
        assert!(room < 10 * (LIST_MAX / 8 + 2 * ROOM), "room for {room}");
    }
}
