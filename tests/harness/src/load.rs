//! Clients in a closed loop: acquire, release, and again, over every node, while a story runs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::caller::{Caller, Failed};
use super::cluster::{NODES, TestCluster};
use super::history::History;

/// Locks that every client wants. As many clients have one of their own.
const SHARED_KEYS: u64 = 4;
/// Long against a failover: a lease that ends during one would hide a lost grant.
const LEASE_MS: u64 = 20_000;

/// What the clients did.
#[derive(Debug)]
pub struct Report {
    /// Acquire and release, both answered.
    pub cycles: u64,
    /// How often a client had to go on at another node.
    pub moves: u64,
    /// Operations that failed although the client did what the contract says.
    pub failures: Vec<String>,
    pub took: Duration,
}

impl Report {
    pub fn cycles_per_second(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a figure to print")]
        let cycles = self.cycles as f64;
        cycles / self.took.as_secs_f64()
    }
}

/// Clients that run, as their story sees them.
#[derive(Debug, Default)]
pub struct Load {
    stop: AtomicBool,
    cycles: AtomicU64,
    moves: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Acquire and release, both answered, so far.
    pub fn cycles(&self) -> u64 {
        self.cycles.load(Ordering::Relaxed)
    }
}

/// Stops the clients even where the story panics: its thread waits for them.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `story` while `clients` work, spread over the nodes.
pub fn under_load<R>(
    cluster: &TestCluster,
    clients: u64,
    history: &History,
    story: impl FnOnce(&Load) -> R,
) -> (R, Report) {
    let load = Load::default();
    let started = Instant::now();
    let result = thread::scope(|scope| {
        for client in 0..clients {
            let load = &load;
            scope.spawn(move || work(cluster, client, history, load));
        }
        let _stop = StopAtEnd(&load.stop);
        story(&load)
    });
    let report = Report {
        cycles: load.cycles(),
        moves: load.moves.load(Ordering::Relaxed),
        failures: load.failures.into_inner().unwrap(),
        took: started.elapsed(),
    };
    (result, report)
}

fn work(cluster: &TestCluster, client: u64, history: &History, load: &Load) {
    let mut caller = Caller::new(
        cluster,
        NODES[usize::try_from(client % 3).unwrap()],
        history,
    );
    let mut round = client;
    while !load.stop.load(Ordering::Relaxed) {
        round += 1;
        match cycle(&mut caller, client, round) {
            Ok(()) => load.cycles.fetch_add(1, Ordering::Relaxed),
            Err(failed) => {
                load.failures.lock().unwrap().push(failed.0);
                break;
            }
        };
    }
    load.moves.fetch_add(caller.moves, Ordering::Relaxed);
}

/// Every second lock is the client's own, so that some progress never depends on another client;
/// the others are contended, by clients that ask for order and clients that do not.
fn cycle(caller: &mut Caller<'_>, client: u64, round: u64) -> Result<(), Failed> {
    let key = if round.is_multiple_of(2) {
        format!("own-{client}")
    } else {
        format!("shared-{}", (round / 2) % SHARED_KEYS)
    };
    let uuid = uuid::Uuid::now_v7().to_string();
    let more = json!({
        "lease": LEASE_MS, "retryAttempts": 40, "retryDelay": 500, "fifo": client.is_multiple_of(2),
    });
    let answer = caller.acquire(&key, &uuid, &more)?;
    if answer.status != 200 {
        return Err(Failed(format!(
            "{key} was not handed over within 20 s: {answer}"
        )));
    }
    caller.release(&key, &uuid).map(|_| ())
}
