//! Who has a connection, and who makes room for whom.

use std::collections::btree_map::BTreeMap;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::rates::network;

/// Connections beyond the limit, for the health paths alone: `/livez` and `/readyz` are answered at
/// any load.
pub const HEALTH_CONNECTIONS_MAX: usize = 64;

/// Connections that have lost their place and are not closed yet. Beyond this no more are accepted
/// until they are.
pub const LEAVING_MAX: usize = 32;

/// The connections of one node, up to a limit.
///
/// A connection that has not shown a valid key yet keeps its place only while there is room: at most
/// a quarter of all places for the connections of one address (of one /64 in IPv6), and when all
/// places are taken, those of the address that has most of them go first, the one that was idle
/// longest before the others. A connection that has shown a valid key keeps its place.
pub(crate) struct Places {
    max: usize,
    share: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Taken places, the reserve not counted.
    taken: usize,
    leaving: usize,
    /// For each network its connections without a key, the one that was idle longest first.
    keyless: HashMap<IpAddr, BTreeMap<u64, Arc<Standing>>>,
    /// How many each network has in `keyless`.
    sizes: BTreeSet<(usize, IpAddr)>,
    /// Connections for the health paths, the oldest first.
    health: BTreeMap<u64, Arc<Standing>>,
    next: u64,
}

/// What a connection has shown.
#[derive(Default)]
pub(crate) struct Standing {
    has_key: AtomicBool,
    lost: AtomicBool,
    notify: Notify,
}

/// A connection's place: free again when this is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    network: IpAddr,
    standing: Arc<Standing>,
    is_health: bool,
    /// Where it is in its map.
    order: AtomicU64,
}

/// On a request whose connection has not shown a valid key yet.
#[derive(Clone)]
pub(crate) struct Keyless(pub(crate) Arc<Standing>);

impl Places {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            share: (max / 4).max(1),
            state: Mutex::default(),
        }
    }

    /// A place for a new connection from this address, at the cost of another if need be.
    pub(crate) fn take(self: &Arc<Self>, from: IpAddr) -> Place {
        let network = network(from);
        let standing = Arc::new(Standing::default());
        let mut state = self.state();
        let own = state.keyless.get(&network).map_or(0, BTreeMap::len);
        if own >= self.share {
            state.evict_of(network);
        }
        if state.taken >= self.max
            && let Some(&(_, largest)) = state.sizes.last()
        {
            state.evict_of(largest);
        }
        let is_health = state.taken >= self.max;
        let order = state.order();
        if is_health {
            if state.health.len() >= HEALTH_CONNECTIONS_MAX
                && let Some((_, oldest)) = state.health.pop_first()
            {
                state.evict(&oldest);
            }
            state.health.insert(order, Arc::clone(&standing));
        } else {
            state.taken += 1;
            state.insert(network, order, Arc::clone(&standing));
        }
        drop(state);
        Place {
            places: Arc::clone(self),
            network,
            standing,
            is_health,
            order: AtomicU64::new(order),
        }
    }

    /// Whether so many connections are being closed that no more should be accepted now.
    pub(crate) fn is_clearing(&self) -> bool {
        self.state().leaving >= LEAVING_MAX
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn order(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn insert(&mut self, network: IpAddr, order: u64, standing: Arc<Standing>) {
        let own = self.keyless.entry(network).or_default();
        self.sizes.remove(&(own.len(), network));
        own.insert(order, standing);
        self.sizes.insert((own.len(), network));
    }

    fn remove(&mut self, network: IpAddr, order: u64) -> Option<Arc<Standing>> {
        let own = self.keyless.get_mut(&network)?;
        let size = own.len();
        let removed = own.remove(&order)?;
        self.sizes.remove(&(size, network));
        if size > 1 {
            self.sizes.insert((size - 1, network));
        } else {
            self.keyless.remove(&network);
        }
        Some(removed)
    }

    /// The connection of this network that was idle longest loses its place.
    fn evict_of(&mut self, network: IpAddr) {
        let own = self.keyless.get(&network);
        let Some((&order, _)) = own.and_then(BTreeMap::first_key_value) else {
            return;
        };
        if let Some(standing) = self.remove(network, order) {
            self.taken -= 1;
            self.evict(&standing);
        }
    }

    fn evict(&mut self, standing: &Standing) {
        self.leaving += 1;
        standing.lost.store(true, Ordering::Release);
        standing.notify.notify_one();
    }
}

impl Standing {
    /// A valid key was shown on this connection.
    pub(crate) fn shows_key(&self) {
        self.has_key.store(true, Ordering::Release);
    }
}

impl Place {
    /// Whether only the health paths are served here.
    pub(crate) fn is_health(&self) -> bool {
        self.is_health
    }

    /// Whether a valid key was shown on this connection.
    pub(crate) fn has_key(&self) -> bool {
        self.standing.has_key.load(Ordering::Acquire)
    }

    /// For the next request, while no valid key was shown.
    pub(crate) fn keyless(&self) -> Option<Keyless> {
        (!self.is_health && !self.has_key()).then(|| Keyless(Arc::clone(&self.standing)))
    }

    /// A request of a connection without a key before it was answered: with a key the place is kept from
    /// now on, without one it was idle least.
    pub(crate) fn answered(&self) {
        if self.is_health {
            return;
        }
        let mut state = self.places.state();
        let Some(standing) = state.remove(self.network, self.order()) else {
            return;
        };
        if !self.has_key() {
            let order = state.order();
            self.order.store(order, Ordering::Relaxed);
            state.insert(self.network, order, standing);
        }
    }

    /// Whether no other connection can take the place any more.
    pub(crate) fn is_kept(&self) -> bool {
        self.has_key() && !self.standing.lost.load(Ordering::Acquire)
    }

    fn order(&self) -> u64 {
        self.order.load(Ordering::Relaxed)
    }

    /// Resolves when the place goes to another.
    pub(crate) async fn lost(&self) {
        self.standing.notify.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state();
        if self.standing.lost.load(Ordering::Acquire) {
            state.leaving -= 1;
        } else if self.is_health {
            state.health.remove(&self.order());
        } else {
            state.remove(self.network, self.order());
            state.taken -= 1;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn lost(place: &Place) -> bool {
        place.standing.lost.load(Ordering::Acquire)
    }

    #[test]
    fn the_longest_idle_without_a_key_makes_room() {
        let places = Arc::new(Places::new(8));
        // Two of each address, all they may have.
        let mut taken: Vec<Place> = (0..8).map(|n| places.take(address(n / 2))).collect();
        taken[0].answered();
        let third = places.take(address(0));
        assert!(lost(&taken[1]) && !lost(&taken[0]), "its own address pays");
        taken.push(third);
        let other = places.take(address(9));
        assert!(!other.is_health());
        assert_eq!(taken.iter().filter(|place| lost(place)).count(), 2);
    }

    #[test]
    fn a_connection_with_a_key_keeps_its_place_and_health_has_a_reserve() {
        let places = Arc::new(Places::new(4));
        let mut taken: Vec<Place> = (0..4).map(|n| places.take(address(n))).collect();
        for place in &taken {
            place.keyless().unwrap().0.shows_key();
            place.answered();
            assert!(place.keyless().is_none());
        }
        let beyond: Vec<Place> = (0..=64).map(|_| places.take(address(9))).collect();
        assert!(taken.iter().all(|place| !lost(place)));
        assert!(beyond.iter().all(Place::is_health));
        assert!(lost(&beyond[0]) && !lost(&beyond[1]));
        drop(taken.pop());
        assert!(!places.take(address(1)).is_health());
        drop((taken, beyond));
        let state = places.state();
        assert_eq!((state.taken, state.leaving), (0, 0));
        assert!(state.keyless.is_empty() && state.sizes.is_empty() && state.health.is_empty());
    }
}
