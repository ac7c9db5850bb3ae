//! What a machine believes the time to be.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evermind_raft::node::Clocks;
use tokio::time::Instant;

/// When every simulation begins, in ms since 1970: a fixed day, so that dates in a trace repeat.
const EPOCH_MS: u64 = 1_800_000_000_000;

#[derive(Debug, Default)]
struct Inner {
    /// Since boot, when the present process started or the last one stopped.
    base: Duration,
    /// Since the simulation began, likewise.
    total: Duration,
    /// When the present process started, by its runtime.
    since: Option<Instant>,
    /// How wrong the date is, in ms.
    wall_off_ms: i64,
    /// How often a wrong date was read.
    wrong_dates: u64,
}

/// A machine's clocks. Clones are the same ones.
#[derive(Debug, Clone, Default)]
pub struct HostClock(Arc<Mutex<Inner>>);

impl HostClock {
    /// The clocks of a machine that has been up for so long.
    pub fn up_for(up: Duration) -> Self {
        let clock = Self::default();
        clock.lock().base = up;
        clock
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process starts; its runtime says that it is this late.
    pub fn started(&self, now: Instant) {
        self.lock().since = Some(now);
    }

    /// The process is gone, this late by its runtime.
    pub fn stopped(&self, now: Instant) {
        let mut inner = self.lock();
        if let Some(since) = inner.since.take() {
            let ran = now - since;
            inner.base += ran;
            inner.total += ran;
        }
    }

    /// Time passes without a process.
    pub fn passed(&self, time: Duration) {
        let mut inner = self.lock();
        inner.base += time;
        inner.total += time;
    }

    /// The machine was off: the monotonic clock starts from 0.
    pub fn rebooted(&self) {
        self.lock().base = Duration::ZERO;
    }

    /// How often a wrong date was read.
    pub fn wrong_dates(&self) -> u64 {
        self.lock().wrong_dates
    }

    /// Somebody sets the date.
    pub fn set_wall_off_ms(&self, off_ms: i64) {
        self.lock().wall_off_ms = off_ms;
    }
}

impl Clocks for HostClock {
    fn since_boot(&self) -> Duration {
        let inner = self.lock();
        let ran = inner.since.map_or(Duration::ZERO, |since| since.elapsed());
        inner.base + ran
    }

    fn wall_ms(&self) -> u64 {
        let mut inner = self.lock();
        inner.wrong_dates += u64::from(inner.wall_off_ms != 0);
        let ran = inner.since.map_or(Duration::ZERO, |since| since.elapsed());
        let ms = u64::try_from((inner.total + ran).as_millis()).expect("a short simulation");
        (EPOCH_MS + ms).saturating_add_signed(inner.wall_off_ms)
    }
}
