//! Who has a connection, and who makes room for whom.

mod crowd;
mod keyed;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use tokio::sync::Notify;

use self::crowd::Crowd;
use self::keyed::Keyed;
use crate::rates::network;

/// Connections beyond the limit, for the health paths alone: `/livez` and `/readyz` are answered at
/// any load.
pub const HEALTH_CONNECTIONS_MAX: usize = 64;

/// Connections that have lost their place and are not closed yet. Beyond this no more are accepted
/// until they are.
pub const LEAVING_MAX: usize = 32;

/// The connections of one node, up to a limit.
///
/// When all places are taken, a connection goes for each new one. First one that has not shown a valid
/// key: of the address (of the /64 in IPv6) that has most of these, the one that was idle for longest.
/// So many that come at once are served while there is room, and one address cannot keep others out.
/// Where all have shown a key, the one that is idle for longest. A connection with a key counts for no
/// address, and keeps its place while it has work, which begins when the key is known: a wait may take
/// minutes.
pub(crate) struct Places {
    max: usize,
    /// Requests with a key, over all connections.
    uses: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Taken places, the reserve not counted.
    taken: usize,
    leaving: usize,
    /// Connections without a key, in the order of how long they were idle.
    keyless: Crowd,
    keyed: Keyed,
    /// Connections for the health paths, in the order of their age.
    health: Crowd,
    next: u64,
}

/// Has shown no valid key, or one that is refused by now. To and from here only under the lock of
/// [`Places`].
const NO_KEY: u8 = 0;
/// Has shown a valid key, and has nothing to do.
const IDLE: u8 = 1;
/// Has shown a valid key, and has work: it cannot lose its place.
const WORK: u8 = 2;
/// Has lost its place. For good.
const LOST: u8 = 3;

/// What a connection has shown.
struct Standing {
    network: IpAddr,
    /// Where it is in its map.
    order: AtomicU64,
    phase: AtomicU8,
    /// With a key: which of all requests was its newest.
    used: AtomicU64,
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

/// As what a request is served.
pub(crate) enum Begun {
    /// Of a connection that may show a key with it.
    Keyless(Keyless),
    Keyed,
    /// Not at all: the connection is being closed.
    Lost,
}

impl Places {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            uses: AtomicU64::default(),
            state: Mutex::default(),
        }
    }

    /// A place for a new connection from this address, at the cost of another if need be.
    pub(crate) fn take(self: &Arc<Self>, from: IpAddr) -> Place {
        let network = network(from);
        let mut state = self.state();
        if state.taken >= self.max
            && let Some(idle) = state.make_room(network)
        {
            state.taken -= 1;
            state.evict(&idle);
        }
        let is_health = state.taken >= self.max;
        let order = state.order();
        let standing = Arc::new(Standing {
            network,
            order: AtomicU64::new(order),
            phase: AtomicU8::new(NO_KEY),
            used: AtomicU64::new(0),
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

    fn uses(&self, standing: &Standing) {
        let used = 1 + self.uses.fetch_add(1, Ordering::Relaxed);
        standing.used.store(used, Ordering::Relaxed);
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

    fn make_room(&mut self, newcomer: IpAddr) -> Option<Arc<Standing>> {
        let keyless = self.keyless.make_room(newcomer);
        keyless.or_else(|| self.keyed.make_room())
    }

    fn evict(&mut self, standing: &Standing) {
        self.leaving += 1;
        standing.phase.store(LOST, Ordering::Release);
        standing.notify.notify_one();
    }
}

impl Standing {
    fn order(&self) -> u64 {
        self.order.load(Ordering::Relaxed)
    }

    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Acquire)
    }

    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether it was in this phase, and is in the other now.
    fn goes_from(&self, before: u8, after: u8) -> bool {
        let exchange =
            (self.phase).compare_exchange(before, after, Ordering::AcqRel, Ordering::Acquire);
        exchange.is_ok()
    }
}

impl Keyless {
    /// A valid key was shown on this connection: it keeps its place while it has work, unless it has
    /// lost it already.
    pub(crate) fn shows_key(&self) {
        let mut state = self.places.state();
        if state.keyless.remove(&self.standing) {
            self.standing.phase.store(WORK, Ordering::Release);
            self.places.uses(&self.standing);
            state.keyed.insert(Arc::clone(&self.standing));
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
        matches!(self.standing.phase(), IDLE | WORK)
    }

    /// A request came.
    pub(crate) fn begin(&self) -> Begun {
        if self.standing.goes_from(IDLE, WORK) {
            self.places.uses(&self.standing);
            return Begun::Keyed;
        }
        if self.standing.phase() == LOST {
            return Begun::Lost;
        }
        self.touch();
        Begun::Keyless(Keyless {
            places: Arc::clone(&self.places),
            standing: Arc::clone(&self.standing),
        })
    }

    /// It was answered.
    pub(crate) fn end(&self, status: StatusCode) {
        let is_refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if is_refused && self.standing.phase() == WORK {
            self.loses_key();
        } else if !self.standing.goes_from(WORK, IDLE) {
            self.touch();
        }
    }

    /// Its key is refused by now: it is as one that has shown none.
    fn loses_key(&self) {
        let mut state = self.places.state();
        if state.keyed.remove(&self.standing) {
            let order = state.order();
            self.standing.order.store(order, Ordering::Relaxed);
            self.standing.phase.store(NO_KEY, Ordering::Release);
            state.keyless.insert(Arc::clone(&self.standing));
        }
    }

    /// Where no valid key was shown, this is the connection that was idle least.
    fn touch(&self) {
        let mut state = self.places.state();
        if state.keyless.remove(&self.standing) {
            let order = state.order();
            self.standing.order.store(order, Ordering::Relaxed);
            state.keyless.insert(Arc::clone(&self.standing));
        }
    }

    #[cfg(evermind_mutants)]
    pub(crate) fn ends_unsaid(&self) {
        self.standing.notify.notify_one();
    }

    /// Resolves when the place goes to another.
    pub(crate) async fn lost(&self) {
        self.standing.notify.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state();
        if state.keyless.remove(&self.standing) || state.keyed.remove(&self.standing) {
            state.taken -= 1;
        } else if !state.health.remove(&self.standing) {
            state.leaving -= 1;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
