//! Places for connections whose peer has not proved yet who it is.
//!
//! Anyone can open a connection and say nothing. A peer is through its handshake in milliseconds: so
//! whoever comes takes the place of the one that has been silent for longest, and no address has more
//! than a share, unless a peer has proved itself from there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Addresses of proved peers that are remembered: a cluster has a few.
const KNOWN_MAX: usize = 64;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Strangers {
    places: usize,
    share: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// In the order of arrival.
    open: BTreeMap<u64, (IpAddr, CancellationToken)>,
    /// Addresses from which peers proved themselves.
    known: Vec<IpAddr>,
}

/// One stranger's place, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    strangers: Arc<Strangers>,
    number: u64,
    from: IpAddr,
    /// Cancelled when another takes the place.
    pub(super) given_up: CancellationToken,
}

impl Strangers {
    pub(super) fn new(places: usize, share: usize) -> Self {
        Self {
            places,
            share,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more, and whether another had to give it up.
    pub(super) fn enter(self: &Arc<Self>, from: IpAddr) -> (Place, bool) {
        let mut state = self.state();
        let taken = state.make_room(from, self.places, self.share);
        let number = state.next;
        state.next += 1;
        let given_up = CancellationToken::new();
        state.open.insert(number, (from, given_up.clone()));
        drop(state);
        let place = Place {
            strangers: Arc::clone(self),
            number,
            from,
            given_up,
        };
        (place, taken)
    }
}

impl State {
    fn make_room(&mut self, from: IpAddr, places: usize, share: usize) -> bool {
        let of_address = self.open.values().filter(|(ip, _)| *ip == from).count();
        let goes = if of_address >= share && !self.known.contains(&from) {
            self.oldest(|ip| ip == from)
        } else if self.open.len() >= places {
            let known = self.known.clone();
            self.oldest(|ip| !known.contains(&ip))
                .or_else(|| self.oldest(|_| true))
        } else {
            None
        };
        let Some((_, given_up)) = goes.and_then(|number| self.open.remove(&number)) else {
            return false;
        };
        given_up.cancel();
        true
    }

    fn oldest(&self, of: impl Fn(IpAddr) -> bool) -> Option<u64> {
        let mut open = self.open.iter();
        open.find(|(_, (ip, _))| of(*ip)).map(|(number, _)| *number)
    }
}

impl Place {
    /// Its peer proved itself: it is no stranger any more, nor is its address.
    pub(super) fn proved(self) {
        let mut state = self.strangers.state();
        state.known.retain(|ip| *ip != self.from);
        state.known.push(self.from);
        if state.known.len() > KNOWN_MAX {
            state.known.remove(0);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.strangers.state().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn the_oldest_of_an_address_that_has_its_share_gives_way() {
        let strangers = Arc::new(Strangers::new(8, 2));
        let (other, _) = strangers.enter(ip(2));
        let (first, _) = strangers.enter(ip(1));
        let (second, taken) = strangers.enter(ip(1));
        assert!(!taken);
        let (_third, taken) = strangers.enter(ip(1));
        assert!(taken && first.given_up.is_cancelled());
        assert!(!second.given_up.is_cancelled() && !other.given_up.is_cancelled());
    }

    #[test]
    fn where_all_is_taken_an_address_of_a_peer_gives_way_last() {
        let strangers = Arc::new(Strangers::new(3, 2));
        strangers.enter(ip(1)).0.proved();
        let peer: Vec<_> = (0..2).map(|_| strangers.enter(ip(1)).0).collect();
        let (stranger, _) = strangers.enter(ip(2));
        // Beyond a share, because a peer proved itself from there.
        let (_newest, taken) = strangers.enter(ip(1));
        assert!(taken && stranger.given_up.is_cancelled());
        assert!(peer.iter().all(|place| !place.given_up.is_cancelled()));
        let (_and_one, taken) = strangers.enter(ip(1));
        assert!(taken && peer[0].given_up.is_cancelled());
    }
}
