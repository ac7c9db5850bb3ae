//! Who has a connection, and who makes room for whom.

use std::cmp::Reverse;
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
/// A connection that has not shown a valid key yet keeps its place only while there is room. When all
/// places are taken, those of the address (of the /64 in IPv6) that has most of them go first, the one
/// that was idle longest before the others: many that come at once are served while there is room, and
/// one address cannot keep others out. A connection that has shown a valid key keeps its place, and counts for no
/// address: from the moment the key is known, before its request is answered. A wait may take minutes.
pub(crate) struct Places {
    max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Taken places, the reserve not counted.
    taken: usize,
    leaving: usize,
    /// Connections without a key, in the order of how long they were idle.
    keyless: Crowd,
    /// Connections for the health paths, in the order of their age.
    health: Crowd,
    next: u64,
}

/// Connections of which one may have to go, by their networks.
#[derive(Default)]
struct Crowd {
    /// Of each network, the one that goes first before the others.
    of: HashMap<IpAddr, BTreeMap<u64, Arc<Standing>>>,
    /// How many each network has, and its first: of those that have as many, the one whose first is the
    /// oldest comes last.
    sizes: BTreeSet<(usize, Reverse<u64>, IpAddr)>,
    count: usize,
}

/// What a connection has shown. Changed under the lock of [`Places`].
struct Standing {
    network: IpAddr,
    /// Where it is in its map.
    order: AtomicU64,
    has_key: AtomicBool,
    lost: AtomicBool,
    notify: Notify,
}

/// A connection's place: free again when this is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    standing: Arc<Standing>,
    is_health: bool,
}

/// On a request whose connection has not shown a valid key yet.
#[derive(Clone)]
pub(crate) struct Keyless {
    places: Arc<Places>,
    standing: Arc<Standing>,
}

impl Places {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            state: Mutex::default(),
        }
    }

    /// A place for a new connection from this address, at the cost of another if need be.
    pub(crate) fn take(self: &Arc<Self>, from: IpAddr) -> Place {
        let network = network(from);
        let mut state = self.state();
        if state.taken >= self.max
            && let Some(idle) = state.keyless.make_room(network)
        {
            state.taken -= 1;
            state.evict(&idle);
        }
        let is_health = state.taken >= self.max;
        let order = state.order();
        let standing = Arc::new(Standing {
            network,
            order: AtomicU64::new(order),
            has_key: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            notify: Notify::new(),
        });
        if is_health {
            // A crowd from one address leaves the probes of another their answers.
            if state.health.count >= HEALTH_CONNECTIONS_MAX
                && let Some(oldest) = state.health.make_room(network)
            {
                state.evict(&oldest);
            }
            state.health.insert(Arc::clone(&standing));
        } else {
            state.taken += 1;
            state.keyless.insert(Arc::clone(&standing));
        }
        drop(state);
        Place {
            places: Arc::clone(self),
            standing,
            is_health,
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

    fn evict(&mut self, standing: &Standing) {
        self.leaving += 1;
        standing.lost.store(true, Ordering::Release);
        standing.notify.notify_one();
    }
}

impl Crowd {
    fn insert(&mut self, standing: Arc<Standing>) {
        let network = standing.network;
        let own = self.of.entry(network).or_default();
        if let Some(rank) = rank(own, network) {
            self.sizes.remove(&rank);
        }
        own.insert(standing.order(), standing);
        self.sizes.extend(rank(own, network));
        self.count += 1;
    }

    /// Whether it was there.
    fn remove(&mut self, standing: &Standing) -> bool {
        self.take(standing.network, standing.order()).is_some()
    }

    /// Takes out the one that goes for a new one of this network: of the network that has most, which is
    /// its own if no other has more.
    fn make_room(&mut self, newcomer: IpAddr) -> Option<Arc<Standing>> {
        let &(most, _, largest) = self.sizes.last()?;
        let own = self.of.get(&newcomer).map_or(0, BTreeMap::len);
        let network = if own == most { newcomer } else { largest };
        let (&order, _) = self.of.get(&network)?.first_key_value()?;
        self.take(network, order)
    }

    fn take(&mut self, network: IpAddr, order: u64) -> Option<Arc<Standing>> {
        let own = self.of.get_mut(&network)?;
        let before = rank(own, network)?;
        let taken = own.remove(&order)?;
        self.sizes.remove(&before);
        match rank(own, network) {
            Some(rank) => drop(self.sizes.insert(rank)),
            None => drop(self.of.remove(&network)),
        }
        self.count -= 1;
        Some(taken)
    }
}

fn rank(
    own: &BTreeMap<u64, Arc<Standing>>,
    network: IpAddr,
) -> Option<(usize, Reverse<u64>, IpAddr)> {
    let (first, _) = own.first_key_value()?;
    Some((own.len(), Reverse(*first), network))
}

impl Standing {
    fn order(&self) -> u64 {
        self.order.load(Ordering::Relaxed)
    }
}

impl Keyless {
    /// A valid key was shown on this connection: it keeps its place from now on, unless it has lost it
    /// already.
    pub(crate) fn shows_key(&self) {
        if self.places.state().keyless.remove(&self.standing) {
            self.standing.has_key.store(true, Ordering::Release);
        }
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
        (!self.is_health && !self.has_key()).then(|| Keyless {
            places: Arc::clone(&self.places),
            standing: Arc::clone(&self.standing),
        })
    }

    /// A request came or was answered: where no valid key was shown, this is the connection that was idle
    /// least.
    pub(crate) fn touch(&self) {
        if self.is_health {
            return;
        }
        let mut state = self.places.state();
        if state.keyless.remove(&self.standing) {
            let order = state.order();
            self.standing.order.store(order, Ordering::Relaxed);
            state.keyless.insert(Arc::clone(&self.standing));
        }
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
            state.health.remove(&self.standing);
        } else {
            state.keyless.remove(&self.standing);
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
        // All of one address, as after a failover behind one proxy.
        let mut taken: Vec<Place> = (0..8).map(|_| places.take(address(0))).collect();
        assert!(!taken.iter().any(lost), "there is room for all");
        taken[0].touch();
        for other in 1..=3 {
            taken.push(places.take(address(other)));
        }
        assert!(!taken.iter().any(Place::is_health));
        let gone: Vec<bool> = taken.iter().map(lost).collect();
        assert_eq!(
            gone[..5],
            [false, true, true, true, false],
            "not the one that asked last"
        );
        // Five of the first address, one each of three: those that have most go on paying, and of those
        // that have as many the one that is idle for longest.
        for other in [1, 1, 2] {
            taken.push(places.take(address(other)));
        }
        let of_first = taken[..8].iter().filter(|place| !lost(place)).count();
        assert_eq!(of_first, 2);
        // Three of the second address too: now its own pays.
        taken.push(places.take(address(1)));
        assert!(lost(&taken[8]));
    }

    #[test]
    fn of_addresses_with_as_many_the_longest_idle_goes_wherever_it_is() {
        let places = Arc::new(Places::new(4));
        let taken: Vec<Place> = [9, 1, 2, 3].map(|n| places.take(address(n))).into();
        taken[0].touch();
        let beyond: Vec<Place> = (4..6).map(|n| places.take(address(n))).collect();
        let gone: Vec<bool> = taken.iter().chain(&beyond).map(lost).collect();
        assert_eq!(gone, [false, true, true, false, false, false]);
    }

    #[test]
    fn so_many_that_are_being_closed_stop_accepting() {
        let places = Arc::new(Places::new(1));
        let mut taken = Vec::new();
        while !places.is_clearing() {
            taken.push(places.take(address(1)));
            assert!(taken.len() <= LEAVING_MAX + 1);
        }
        taken.swap_remove(0);
        assert!(!places.is_clearing());
    }

    #[test]
    fn a_key_that_is_shown_too_late_keeps_no_place() {
        let places = Arc::new(Places::new(1));
        let first = places.take(address(1));
        let request = first.keyless().unwrap();
        let second = places.take(address(1));
        assert!(lost(&first));
        request.shows_key();
        assert!(!first.has_key());
        drop((first, second));
        assert_eq!(places.state().taken, 0);
    }

    #[test]
    fn a_connection_with_a_key_keeps_its_place_and_health_has_a_reserve() {
        let places = Arc::new(Places::new(4));
        let mut taken: Vec<Place> = (0..4).map(|n| places.take(address(n))).collect();
        for place in &taken {
            place.keyless().unwrap().shows_key();
            assert!(place.keyless().is_none());
        }
        let probe = places.take(address(8));
        let beyond: Vec<Place> = (0..64).map(|_| places.take(address(9))).collect();
        assert!(taken.iter().all(|place| !lost(place)));
        assert!(beyond.iter().all(Place::is_health));
        assert!(lost(&beyond[0]) && !lost(&beyond[1]));
        assert!(!lost(&probe), "another address's crowd costs it nothing");
        drop(taken.pop());
        assert!(!places.take(address(1)).is_health());
        drop((taken, beyond, probe));
        let state = places.state();
        assert_eq!((state.taken, state.leaving), (0, 0));
        for crowd in [&state.keyless, &state.health] {
            assert!(crowd.of.is_empty() && crowd.sizes.is_empty() && crowd.count == 0);
        }
    }
}
