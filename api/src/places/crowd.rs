//! Connections of which one may have to go.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::Standing;

/// Connections of which one may have to go, by their networks.
#[derive(Default)]
pub(super) struct Crowd {
    /// Of each network, the one that goes first before the others.
    pub(super) of: HashMap<IpAddr, BTreeMap<u64, Arc<Standing>>>,
    /// How many each network has, and its first: of those that have as many, the one whose first is the
    /// oldest comes last.
    pub(super) sizes: BTreeSet<(usize, Reverse<u64>, IpAddr)>,
    pub(super) count: usize,
}

impl Crowd {
    pub(super) fn insert(&mut self, standing: Arc<Standing>) {
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
    pub(super) fn remove(&mut self, standing: &Standing) -> bool {
        self.take(standing.network, standing.order()).is_some()
    }

    /// Takes out the one that goes for a new one of this network: of the network that has most, which is
    /// its own if no other has more.
    pub(super) fn make_room(&mut self, newcomer: IpAddr) -> Option<Arc<Standing>> {
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
