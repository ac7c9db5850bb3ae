//! One seed, from the first start to the verdict.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::chaos::{Chaos, Kind};
use crate::dice::Dice;
use crate::invariants::{self, Invariant, Look};
use crate::live::Live;
use crate::net::Effects;
use crate::node::NODES;
use crate::office::Office;
use crate::spells::Spells;
use crate::trace::Trace;
use crate::verdict::{self, Outcome};
use crate::world::World;

/// How long things go wrong, in simulated time: in a few seeds for longer than an idempotency record
/// lives.
const TROUBLE_US: u64 = 25_000_000;
/// See [`TROUBLE_US`].
const LONG_TROUBLE_US: u64 = 150_000_000;
/// How many of a thousand seeds last long.
const LONG_PER_MILLE: u64 = 40;
/// How long a mended cluster may take to serve as one again.
const HEAL_US_MAX: u64 = 30_000_000 + SERVE_AGAIN_US + 22_000_000;
/// By then it is found that a client is not served.
const GIVE_UP_SERVING_US: u64 = 30_000_000;
/// How long clients go on after that.
const SERVE_AGAIN_US: u64 = 3_000_000;
/// How long the nodes are left alone after the last client; in a few seeds long enough for those
/// invariants that want a cluster at rest.
const STAY_US: [u64; 6] = [
    1_500_000, 1_500_000, 1_500_000, 1_500_000, 1_500_000, 22_000_000,
];
/// How often the invariants look.
const LOOK_EVERY_US: u64 = 10_000;

/// What one seed showed.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Lines of the trace.
    pub lines: u64,
    /// Their digest: equal for equal seeds.
    pub digest: String,
    /// How often each kind of fault was seen to do something: that is what counts.
    pub injected: BTreeMap<Kind, u64>,
    /// How often each kind was brought, whether or not anything came of it.
    pub brought: BTreeMap<Kind, u64>,
    /// How many processes ended by themselves because of their disk.
    pub stopped: u64,
    /// How many damaged logs were refused.
    pub refused: u64,
    /// How many sectors and names were not synced when the power went, over all cuts.
    pub unsynced_at_cuts: u64,
    /// What the network did.
    pub effects: Effects,
    /// Processes that were started.
    pub starts: u64,
    /// Simulated time, in microseconds.
    pub simulated_us: u64,
    /// From the end of all trouble until the cluster was one again, in microseconds.
    pub healed_us: u64,
    /// How long nothing was wrong, so that everything had to be in time, in microseconds.
    pub healthy_us: u64,
    /// The newest term that any node came to.
    pub terms: u64,
    /// What was found.
    pub outcome: Outcome,
}

struct Run {
    world: World,
    chaos: Chaos,
    invariants: Vec<Box<dyn Invariant>>,
    live: Live,
    spells: Spells,
    office: Office,
    healed_at_us: Option<u64>,
    stay_us: u64,
    trouble_us: u64,
}

/// Runs a seed.
pub fn seed(seed: u64, trace: &Trace) -> Report {
    let dice = Dice::new(seed);
    let mut world = World::new(&dice, trace.clone());
    for id in NODES {
        world.start(id);
    }
    world.start_clients(dice.named("how many").between(2, 8));
    let mut run = Run {
        world,
        chaos: Chaos::new(dice.named("chaos")),
        invariants: invariants::all(),
        live: Live::default(),
        spells: Spells::default(),
        office: Office::default(),
        healed_at_us: None,
        stay_us: dice.named("stay").pick(&STAY_US),
        trouble_us: if dice.named("long").chance(LONG_PER_MILLE) {
            LONG_TROUBLE_US
        } else {
            TROUBLE_US
        },
    };
    let whole = run.trouble().and_then(|()| run.heal());
    let mut broken = whole.and_then(|()| run.live.at_rest(&mut run.world)).err();
    let healed_us = run.world.now_us() - run.healed_at_us.unwrap_or(run.world.now_us());
    let effects = run.world.net.effects();
    let starts = run.world.places.values().map(|place| place.starts).sum();
    let simulated_us = run.world.now_us();
    run.spells.end(run.world.now_us());
    let statuses = run.look_now().nodes.into_iter();
    let terms = statuses
        .map(|(_, _, status)| status.term)
        .max()
        .unwrap_or(0);
    let healthy_us = run.spells.lasted_us();
    let views = run.live.into_views();
    let outcome = verdict::check(&mut run.world, broken.take(), views, run.spells);
    let (lines, digest) = trace.digest();
    Report {
        seed,
        lines,
        digest: format!("{digest:032x}"),
        injected: run.chaos.observed().clone(),
        brought: run.chaos.injected().clone(),
        stopped: run.chaos.stopped(),
        refused: run.chaos.refused(),
        unsynced_at_cuts: run.world.unsynced_at_cuts,
        effects,
        starts,
        simulated_us,
        healed_us,
        healthy_us,
        terms,
        outcome,
    }
}

impl Run {
    fn trouble(&mut self) -> Result<(), String> {
        while self.world.now_us() < self.trouble_us {
            self.world.tick();
            self.chaos.tick(&mut self.world)?;
            self.live.tick(&self.world);
            self.spells.tick(&self.world, &self.chaos);
            self.look()?;
        }
        Ok(())
    }

    /// Nothing is wrong any more: the clients finish, and the nodes become one again.
    fn heal(&mut self) -> Result<(), String> {
        self.chaos.heal(&mut self.world);
        let healed_at_us = self.world.now_us();
        self.healed_at_us = Some(healed_at_us);
        self.spells.mended(&self.world);
        let mut served = false;
        let mut idle_since_us = None;
        let stay_us = self.stay_us;
        loop {
            self.world.tick();
            self.chaos.look_after_processes(&mut self.world)?;
            self.live.tick(&self.world);
            self.spells.tick(&self.world, &self.chaos);
            self.look()?;
            let now_us = self.world.now_us();
            if now_us - healed_at_us > HEAL_US_MAX {
                return Err(format!(
                    "{} s after everything was mended the cluster is not one again: clients done: {}, nodes: {:?}",
                    HEAL_US_MAX / 1_000_000,
                    self.world.clients_are_done(),
                    self.look_now().nodes
                ));
            }
            if now_us - healed_at_us > SERVE_AGAIN_US && !served {
                // Whatever happened, callers are granted locks again.
                served = self.world.has_granted_since(healed_at_us)
                    && self.world.has_served_all_since(healed_at_us);
                // Whoever is not served by then is named by the checker.
                served |= now_us - healed_at_us > GIVE_UP_SERVING_US;
                if served {
                    self.world.stop_clients();
                }
            }
            if !served || !self.world.clients_are_done() {
                continue;
            }
            // What callers left behind is done by then: hang-ups, places kept for them.
            let since_us = *idle_since_us.get_or_insert(now_us);
            if now_us - since_us > stay_us && self.is_one() {
                return Ok(());
            }
        }
    }

    /// Every node serves, and has applied the same.
    fn is_one(&self) -> bool {
        let mut applied = Vec::new();
        for place in self.world.places.values() {
            let seen = place.process.seen();
            match &seen.node {
                Some(node) if node.is_ready() => applied.push(node.status().applied_index),
                _ => return false,
            }
        }
        applied.windows(2).all(|pair| pair[0] == pair[1])
    }

    fn look(&mut self) -> Result<(), String> {
        if !self.world.now_us().is_multiple_of(LOOK_EVERY_US) {
            return Ok(());
        }
        self.office.look(&self.world, &self.chaos)?;
        let look = self.look_now();
        for invariant in &mut self.invariants {
            invariant
                .look(&look)
                .map_err(|why| format!("{}: {why}", invariant.name()))?;
        }
        Ok(())
    }

    fn look_now(&self) -> Look {
        let nodes = self.world.places.iter().filter_map(|(id, place)| {
            let seen = place.process.seen();
            let node = seen.node.as_ref()?;
            Some((*id, place.starts, node.status()))
        });
        let now_us = self.world.now_us();
        Look {
            now_us,
            nodes: nodes.collect(),
            healed_us: self.healed_at_us.map(|at_us| now_us - at_us),
        }
    }
}
