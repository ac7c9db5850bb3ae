//! Who waits for a resource, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::command::{KeyId, LicenceId, OpId};
#[cfg(evermind_mutants)]
use crate::mutant::{self, Mutant};
use crate::names::{Holder, IdempotencyKey};

/// One HTTP request that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attached {
    pub(crate) operation: OpId,
    /// With which API key.
    pub(crate) caller: KeyId,
    /// Cluster time of the entry that first applied `operation`.
    pub(crate) since_ms: u64,
    /// How often the callers of its node had been detached when it was attached: see
    /// [`crate::session::Session`].
    pub(crate) generation: u64,
    pub(crate) idempotency: Option<IdempotencyKey>,
}

/// One uuid in line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiter {
    pub(crate) holder: Holder,
    /// Which licence admitted it: charged with one attempt when it joined, and with the rest when
    /// the wait ends.
    pub(crate) licence: LicenceId,
    /// Unique in the cluster, and rising: the order of the line.
    pub(crate) place: u64,
    /// Cluster time of first joining. What polling would have cost counts from here.
    pub(crate) joined_ms: u64,
    /// From first joining to the end of the newest request's window.
    pub(crate) window_ms: u64,
    /// Of the newest request.
    pub(crate) retry_attempts: u32,
    /// What polling had cost beyond its first try when the newest request brought its own terms:
    /// other terms cannot take back what was tried.
    pub(crate) polled: u32,
    /// Attempts that were paid for before this wait, and are not paid for again.
    pub(crate) credit: u32,
    /// Of the newest request.
    pub(crate) lease_ms: u64,
    pub(crate) fifo: bool,
    /// In the order of attaching: the last is the newest.
    pub(crate) attached: Vec<Attached>,
    /// Requests whose node was taken for dead, and which may come back by
    /// [`crate::command::Action::Reattach`].
    pub(crate) detached: Vec<Attached>,
    /// When the place goes; set exactly while nothing is attached.
    pub(crate) place_ends_ms: Option<u64>,
    /// The idempotency records that this wait will settle, its detached requests' included.
    pub(crate) records: Vec<IdempotencyKey>,
}

impl Waiter {
    /// The wait is over once cluster time is past this.
    pub(crate) fn ends_ms(&self) -> u64 {
        self.joined_ms.saturating_add(self.window_ms)
    }

    /// Everyone who may still be there to be told.
    pub(crate) fn callers(&self) -> impl Iterator<Item = &Attached> {
        self.attached.iter().chain(&self.detached)
    }

    /// What polling would have cost until `now_ms`.
    pub(crate) fn attempts(&self, now_ms: u64) -> u32 {
        let retries = u64::from(self.retry_attempts);
        let waited_ms = now_ms.saturating_sub(self.joined_ms).min(self.window_ms);
        let polls = (waited_ms * retries).div_ceil(self.window_ms.max(1));
        let polls = u32::try_from(polls.min(retries)).expect("at most retry_attempts");
        1 + polls.max(self.polled)
    }

    /// What polling would have cost in all.
    pub(crate) fn attempts_max(&self) -> u32 {
        1 + self.retry_attempts.max(self.polled)
    }
}

/// The line for one resource. Cheap to clone: a shard is copied with all its queues, and one queue
/// may be long.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Waiter>", into = "Vec<Waiter>")]
pub(crate) struct Queue(Option<Arc<Line>>);

/// Never empty inside a [`Queue`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Line {
    waiters: BTreeMap<u64, Arc<Waiter>>,
    /// Derived: the place of each uuid.
    places: BTreeMap<Holder, u64>,
    /// Derived: the places of those that can be granted.
    attached: BTreeSet<u64>,
}

impl Line {
    fn put(&mut self, waiter: Waiter) {
        if waiter.attached.is_empty() {
            self.attached.remove(&waiter.place);
        } else {
            self.attached.insert(waiter.place);
        }
        self.places.insert(waiter.holder.clone(), waiter.place);
        self.waiters.insert(waiter.place, Arc::new(waiter));
    }
}

impl From<Vec<Waiter>> for Queue {
    fn from(waiters: Vec<Waiter>) -> Self {
        let mut queue = Queue::default();
        for waiter in waiters {
            queue.join(waiter);
        }
        #[cfg(evermind_mutants)]
        if mutant::is(Mutant::WaiterLostOverSnapshot)
            && let Some(line) = queue.0.as_mut()
        {
            Arc::make_mut(line).attached.clear();
        }
        queue
    }
}

impl From<Queue> for Vec<Waiter> {
    fn from(queue: Queue) -> Self {
        queue.iter().cloned().collect()
    }
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |line| line.waiters.len())
    }

    /// How many can be granted: the detached are not counted.
    pub(crate) fn waiting(&self) -> usize {
        self.0.as_ref().map_or(0, |line| line.attached.len())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Waiter> {
        let line = self.0.iter();
        line.flat_map(|line| line.waiters.values().map(AsRef::as_ref))
    }

    pub(crate) fn of(&self, holder: &Holder) -> Option<&Waiter> {
        let line = self.0.as_ref()?;
        line.waiters
            .get(line.places.get(holder)?)
            .map(AsRef::as_ref)
    }

    pub(crate) fn at(&self, place: u64) -> Option<&Waiter> {
        self.0.as_ref()?.waiters.get(&place).map(AsRef::as_ref)
    }

    /// The place of the first that can be granted: the detached are passed over.
    pub(crate) fn first_attached(&self) -> Option<u64> {
        self.0.as_ref()?.attached.first().copied()
    }

    pub(crate) fn join(&mut self, waiter: Waiter) {
        Arc::make_mut(self.0.get_or_insert_default()).put(waiter);
    }

    /// Changes the waiter at `place`. Its holder and its place must stay.
    pub(crate) fn change(&mut self, place: u64, change: impl FnOnce(&mut Waiter)) {
        let Some(line) = self.0.as_mut().map(Arc::make_mut) else {
            return;
        };
        let Some(waiter) = line.waiters.get_mut(&place).map(Arc::make_mut) else {
            return;
        };
        change(waiter);
        if waiter.attached.is_empty() {
            line.attached.remove(&place);
        } else {
            line.attached.insert(place);
        }
    }

    pub(crate) fn remove(&mut self, place: u64) -> Option<Waiter> {
        let line = Arc::make_mut(self.0.as_mut()?);
        let waiter = line.waiters.remove(&place)?;
        line.places.remove(&waiter.holder);
        line.attached.remove(&place);
        if line.waiters.is_empty() {
            self.0 = None;
        }
        Some(Arc::unwrap_or_clone(waiter))
    }
}
