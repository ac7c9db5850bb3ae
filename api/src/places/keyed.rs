//! Connections that have shown a valid key.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::{IDLE, LOST, Standing};

/// How many are looked out at once as the next to go: looking takes a walk over all of them.
const OLDEST_MAX: usize = 64;

/// In work or idle. Where there is no other room, the one that is idle for longest has to go; never one
/// in work.
#[derive(Default)]
pub(super) struct Keyed {
    of: HashMap<u64, Arc<Standing>>,
    /// The next to go, and when each was used last.
    oldest: VecDeque<(u64, Arc<Standing>)>,
    /// None was idle a moment ago: so many newcomers are turned away before that is looked at again.
    turned_away: usize,
}

impl Keyed {
    pub(super) fn insert(&mut self, standing: Arc<Standing>) {
        self.of.insert(standing.order(), standing);
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, standing: &Standing) -> bool {
        self.of.remove(&standing.order()).is_some()
    }

    /// Takes out the one that goes for a new one. It is lost from here on.
    pub(super) fn make_room(&mut self) -> Option<Arc<Standing>> {
        self.next_oldest().or_else(|| {
            if self.turned_away > 0 {
                self.turned_away -= 1;
                return None;
            }
            self.look();
            if self.oldest.is_empty() {
                self.turned_away = OLDEST_MAX;
            }
            self.next_oldest()
        })
    }

    fn next_oldest(&mut self) -> Option<Arc<Standing>> {
        while let Some((used, standing)) = self.oldest.pop_front() {
            // Used since, or closed since.
            if standing.used() != used || !self.of.contains_key(&standing.order()) {
                continue;
            }
            // A request may come just now: then it is in work.
            if standing.goes_from(IDLE, LOST) {
                self.remove(&standing);
                return Some(standing);
            }
        }
        None
    }

    fn look(&mut self) {
        let idle = self.of.values().filter(|s| s.phase() == IDLE);
        let mut idle: Vec<_> = idle.map(|s| (s.used(), Arc::clone(s))).collect();
        if idle.len() > OLDEST_MAX {
            idle.select_nth_unstable_by_key(OLDEST_MAX, |(used, _)| *used);
            idle.truncate(OLDEST_MAX);
        }
        idle.sort_unstable_by_key(|(used, _)| *used);
        self.oldest = idle.into();
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }
}
