//! When nothing was wrong.

use evermind_checker::health::check_served;
use evermind_checker::history::{History, Moment};
use evermind_checker::{Health, Healthy, Violation};

use crate::chaos::Chaos;
use crate::world::World;

/// Nothing counts before it has been quiet for so long.
const QUIET_US: u64 = 2_000_000;

/// What a message takes at most where nothing is wrong, both ways and a tick.
const TRANSIT_MS: u64 = 4;

/// How long before a fault counts something of it may show.
const NOTICED_US: u64 = 5_000;

/// After everything is mended, every client is served within this time.
const SERVED_WITHIN_MS: u64 = 30_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Spells {
    quiet_us: Option<u64>,
    clear_us: Option<u64>,
    open: Option<Healthy>,
    ended: Vec<Healthy>,
    mended_us: Option<u64>,
}

fn moment(us: u64) -> Moment {
    Moment(us * 1_000)
}

impl Spells {
    /// Time has passed.
    pub fn tick(&mut self, world: &World, chaos: &Chaos) {
        let now_us = world.now_us();
        if chaos.harms_clients(world) {
            self.clear_us = None;
        } else {
            self.clear_us.get_or_insert(now_us);
        }
        if !chaos.is_quiet(world) {
            self.quiet_us = None;
            self.end(now_us);
            return;
        }
        let quiet_us = *self.quiet_us.get_or_insert(now_us);
        let clear_us = self.clear_us.unwrap_or(quiet_us);
        if self.open.is_none() && now_us >= quiet_us + QUIET_US && serves(world) {
            self.open = Some(Healthy {
                quiet: moment(quiet_us),
                clear: moment(clear_us),
                from: moment(now_us),
                until: moment(now_us),
            });
        }
    }

    /// Everything was mended, and no trouble comes any more.
    pub fn mended(&mut self, world: &World) {
        self.mended_us = Some(world.now_us());
    }

    /// It is known that nothing happens from here on.
    pub fn end(&mut self, now_us: u64) {
        if let Some(open) = self.open.take() {
            // What begins now was noticed by some a moment ago.
            let until = moment(now_us.saturating_sub(NOTICED_US)).max(open.from);
            self.ended.push(Healthy { until, ..open });
        }
    }

    /// How long it was healthy, in microseconds.
    pub fn lasted_us(&self) -> u64 {
        let lasted = |spell: &Healthy| (spell.until.0 - spell.from.0) / 1_000;
        self.ended.iter().map(lasted).sum()
    }

    /// For the checker, and who was not served after the heal.
    pub fn judge(self, world: &World, history: &History) -> (Health, Vec<Violation>) {
        let unserved = self.mended_us.map(|us| {
            let clients = 1..=world.clients_started();
            check_served(history, clients, moment(us), SERVED_WITHIN_MS)
        });
        let ends_at_once = u64::from(world.pieces().of_expire).div_ceil(12);
        let health = Health::new(self.ended, TRANSIT_MS, ends_at_once);
        (health, unserved.unwrap_or_default())
    }
}

/// All nodes are up and ready, and they agree who leads.
fn serves(world: &World) -> bool {
    let leader = world.leader();
    leader.is_some()
        && world.places.values().all(|place| {
            let seen = place.process.seen();
            let node = seen.node.as_ref();
            node.is_some_and(|node| node.is_ready() && node.status().leader == leader)
        })
}
