//! What the clients of a run share, and the run of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use evermind_checker::history::Recorder;

use crate::calm::Calm;
use crate::cluster::Cluster;
use crate::store::Stores;
use crate::time::Timeline;
use crate::watch::Watch;
use crate::worker::Worker;

/// Clients that run, as the injector of faults sees them.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) recorder: Recorder,
    pub(crate) timeline: Timeline,
    pub(crate) stores: Stores,
    pub(crate) watch: Watch,
    stop: AtomicBool,
    answered: AtomicU64,
    /// Requests that were sent again because the answer before was none.
    retries: AtomicU64,
    pub(crate) calm: Calm,
    failures: Mutex<Vec<String>>,
}

impl Load {
    pub(crate) fn new() -> Self {
        Self {
            recorder: Recorder::default(),
            timeline: Timeline::start(),
            stores: Stores::default(),
            watch: Watch::default(),
            stop: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            calm: Calm::default(),
            failures: Mutex::default(),
        }
    }

    /// Requests that were answered with something certain, so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is sent again.
    pub(crate) fn retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Notes an operation that failed although its client did what the contract says.
    pub(crate) fn failed(&self, what: String) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.push(what);
    }

    /// The operations that failed so.
    pub(crate) fn failures(&self) -> Vec<String> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.clone()
    }

    /// Writes to the store that `key` guards; whether it was taken.
    pub(crate) fn write(&self, key: &str, uuid: &str, token: u64) -> bool {
        self.stores
            .write(&self.recorder, self.timeline, key, uuid, token)
    }

    /// Runs `story` while `clients` work, spread over the nodes; returns when they have stopped.
    pub(crate) fn run<R>(&self, cluster: &Cluster, clients: u64, story: impl FnOnce() -> R) -> R {
        thread::scope(|scope| {
            // Stops them even where the story panics: the scope waits for them.
            let _stop = StopAtEnd(&self.stop);
            for client in 0..clients {
                scope.spawn(move || {
                    let mut worker = Worker::new(cluster, self, client);
                    while !self.is_over() {
                        worker.cycle();
                    }
                });
            }
            scope.spawn(|| self.watch.run(cluster, || self.is_over()));
            story()
        })
    }
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
