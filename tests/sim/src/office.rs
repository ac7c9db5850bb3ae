//! A leader that a follower hears, and that hears the follower, keeps its office: a third node that
//! hears nobody asks before it raises the term, and is told no.

use std::collections::BTreeMap;

use crate::chaos::Chaos;
use crate::net::HostId;
use crate::node::NODES;
use crate::world::World;

/// For so long two nodes must have been unharmed, and one of them in office.
const SETTLED_US: u64 = 3_000_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Office {
    /// Since when nothing harms two nodes, nor what is between them.
    unharmed: BTreeMap<(HostId, HostId), u64>,
    /// Who leads, in which term, since when.
    leads: Option<(HostId, u64, u64)>,
}

impl Office {
    /// Time has passed.
    ///
    /// # Errors
    /// If the term was raised although a leader and a follower hear each other.
    pub fn look(&mut self, world: &World, chaos: &Chaos) -> Result<(), String> {
        let now_us = world.now_us();
        for a in NODES {
            for b in NODES.into_iter().filter(|b| *b > a) {
                if chaos.harms_pair(world, a, b) {
                    self.unharmed.remove(&(a, b));
                } else {
                    self.unharmed.entry((a, b)).or_insert(now_us);
                }
            }
        }
        let highest = world.places.values().filter_map(|place| {
            let seen = place.process.seen();
            seen.node.as_ref().map(|node| node.status().term)
        });
        let Some(term) = highest.max() else {
            return Ok(());
        };
        if let Some((leader, its_term, since_us)) = self.leads
            && term > its_term
            && since_us + SETTLED_US <= now_us
            && let Some(follower) = self.follower_of(leader, now_us)
        {
            return Err(format!(
                "terms have reasons: term {its_term} became {term}, and nothing had harmed its leader {leader} and \
                 follower {follower} for {} s",
                SETTLED_US / 1_000_000
            ));
        }
        self.leads = match (world.leader(), self.leads) {
            (Some(leader), Some((before, its_term, since_us)))
                if (leader, term) == (before, its_term) =>
            {
                Some((leader, term, since_us))
            }
            (Some(leader), _) => Some((leader, term, now_us)),
            (None, _) => None,
        };
        Ok(())
    }

    fn follower_of(&self, leader: HostId, now_us: u64) -> Option<HostId> {
        let mut others = NODES.into_iter().filter(|id| *id != leader);
        others.find(|other| {
            let pair = (leader.min(*other), leader.max(*other));
            let since_us = self.unharmed.get(&pair);
            since_us.is_some_and(|since_us| since_us + SETTLED_US <= now_us)
        })
    }
}
