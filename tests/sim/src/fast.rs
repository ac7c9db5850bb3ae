//! When some node's clocks ran fast, and how fast the fastest did: what the checker may forgive.

use std::collections::BTreeMap;

use evermind_checker::Spell;
use evermind_checker::history::Moment;

use crate::net::HostId;

/// The rates of all nodes over time.
#[derive(Debug, Default)]
pub struct Fast {
    now: BTreeMap<HostId, u64>,
    since_us: u64,
    over: Vec<Spell>,
}

impl Fast {
    /// A node's clocks run this much faster from `now_us` on; slow ones outrun nobody.
    pub fn set(&mut self, id: HostId, rate_ppm: i64, now_us: u64) {
        self.over.extend(self.present(now_us));
        self.now.insert(id, u64::try_from(rate_ppm).unwrap_or(0));
        self.since_us = now_us;
    }

    /// Every spell until `now_us`, none of which overlaps another.
    pub fn spells(&self, now_us: u64) -> Vec<Spell> {
        let present = self.present(now_us);
        self.over.iter().copied().chain(present).collect()
    }

    fn present(&self, now_us: u64) -> Option<Spell> {
        let fastest_ppm = self.now.values().max().copied().unwrap_or(0);
        let spell = Spell {
            from: Moment(self.since_us * 1_000),
            until: Moment(now_us * 1_000),
            rate_per_mille: fastest_ppm.div_ceil(1_000),
        };
        (fastest_ppm > 0 && spell.from < spell.until).then_some(spell)
    }
}
