//! What an injector of faults works with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use evermind_checker::history::{Ask, Told};
use evermind_harness::cluster::NODES;
use evermind_harness::until;

use crate::caller::{Caller, Operation};
use crate::cluster::Cluster;
use crate::load::Load;
use crate::random::Random;
use crate::tally::Tally;

/// The matrix: serving again within this time of the heal.
const SERVES_WITHIN: Duration = Duration::from_secs(30);

/// Clients that ask whether a node serves are numbered from here on.
const PROBES: u64 = 2_000;

/// One run of one row while its faults are injected.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) load: &'a Load,
    ends: Instant,
    injected: AtomicU64,
    tally: Mutex<Tally>,
    effects: Mutex<Vec<(&'static str, u64)>>,
    faults: Mutex<Vec<String>>,
    notes: Mutex<Vec<String>>,
    random: Mutex<Random>,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(cluster: &'a Cluster, load: &'a Load, lasts: Duration, seed: u64) -> Self {
        Self {
            cluster,
            load,
            ends: Instant::now() + lasts,
            injected: AtomicU64::new(0),
            tally: Mutex::default(),
            effects: Mutex::default(),
            faults: Mutex::default(),
            notes: Mutex::default(),
            random: Mutex::new(Random::new(seed)),
        }
    }

    /// Whether another fault is to be injected: at least one always is.
    pub(crate) fn goes_on(&self) -> bool {
        self.injected() == 0 || Instant::now() < self.ends
    }

    /// Counts a fault that was injected.
    pub(crate) fn inject(&self) {
        self.injected.fetch_add(1, Ordering::Relaxed);
        guard(&self.tally).inject();
    }

    /// How many of these were seen to do something.
    pub(crate) fn observed(&self) -> u64 {
        guard(&self.tally).observed()
    }

    pub(crate) fn injected(&self) -> u64 {
        self.injected.load(Ordering::Relaxed)
    }

    /// Adds to an effect that was observed. Each that is named must be more than 0 in the end.
    pub(crate) fn effect(&self, what: &'static str, how_often: u64) {
        guard(&self.tally).effect(how_often);
        let mut effects = guard(&self.effects);
        match effects.iter_mut().find(|(name, _)| *name == what) {
            Some((_, sum)) => *sum += how_often,
            None => effects.push((what, how_often)),
        }
    }

    pub(crate) fn effects(&self) -> Vec<(&'static str, u64)> {
        guard(&self.effects).clone()
    }

    /// Something that must be so, and what is wrong where it is not.
    pub(crate) fn require(&self, so: bool, otherwise: impl FnOnce() -> String) {
        if !so {
            guard(&self.faults).push(otherwise());
        }
    }

    /// What was required and not so.
    pub(crate) fn faults(&self) -> Vec<String> {
        guard(&self.faults).clone()
    }

    /// A figure for the table.
    pub(crate) fn note(&self, what: String) {
        guard(&self.notes).push(what);
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        guard(&self.notes).clone()
    }

    /// One of the nodes.
    pub(crate) fn any_node(&self) -> u64 {
        NODES[usize::try_from(self.below(NODES.len() as u64)).expect("small")]
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        guard(&self.random).below(bound)
    }

    /// The rhythm of the faults: lets the clients work for so long.
    #[allow(clippy::unused_self, reason = "reads as what happens in the scene")]
    pub(crate) fn spell(&self, millis: u64) {
        thread::sleep(Duration::from_millis(millis));
    }

    /// Lets the clients work until they have been answered a few times more.
    pub(crate) fn work(&self) {
        let before = self.load.answered();
        until("the clients are answered", SERVES_WITHIN, || {
            (self.load.answered() >= before + 50).then_some(())
        });
    }

    /// Waits for a term above this one, and counts it.
    pub(crate) fn await_term_above(&self, term: u64, ids: &[u64]) {
        until("a new term has a leader", Duration::from_secs(20), || {
            let leader = self.cluster.leader_among(ids);
            let view = self.cluster.view(leader)?;
            (view.term > term).then_some(())
        });
        self.effect("terms changed", 1);
    }

    /// Ends what may still be wrong: links pass, every node runs. Returns when each node has served.
    pub(crate) fn heal(&self) -> Duration {
        let cluster = self.cluster;
        if let Some(lan) = &cluster.lan {
            lan.heal();
        }
        for id in NODES {
            if !cluster.node(id).is_running() {
                // Reaped, where it ended by itself.
                cluster.kill(id);
                cluster.launch(id);
            } else if cluster.node(id).is_stopped() {
                cluster.resume(id);
            }
        }
        let healed = Instant::now();
        for id in NODES {
            until(
                &format!("node {id} serves after the heal"),
                SERVES_WITHIN.saturating_sub(healed.elapsed()),
                || {
                    assert!(
                        cluster.node(id).is_running(),
                        "node {id} ended after the heal: {}",
                        cluster.last_words(id)
                    );
                    self.serves(id).then_some(())
                },
            );
        }
        healed.elapsed()
    }

    /// Whether a node grants a lock that nobody else wants, and takes it back.
    pub(crate) fn serves(&self, id: u64) -> bool {
        let uuid = format!("probe-{id}-{}", self.load.timeline.now().0);
        let mut caller = self.caller(PROBES + id, id);
        let operation = |ask| Operation {
            key: uuid.clone(),
            uuid: uuid.clone(),
            ask,
            idempotency: None,
        };
        let acquire = operation(Ask::Acquire {
            lease_ms: 1_000,
            retry_attempts: 0,
            retry_delay_ms: 0,
            fifo: false,
        });
        let granted = matches!(caller.once(&acquire), Told::Granted { .. });
        let released = caller.once(&operation(Ask::Release));
        granted && released == Told::Released
    }

    /// A client besides those of the load, which begins at `node`.
    pub(crate) fn caller(&self, number: u64, node: u64) -> Caller<'a> {
        Caller::new(self.cluster, self.load, number, node)
    }
}

fn guard<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
