//! What the transport counts, and how seldom it complains.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Complaints of one kind are logged once in this time; what came between is counted.
const COMPLAINT_INTERVAL: Duration = Duration::from_mins(1);

/// Counters since the endpoint was made.
#[derive(Debug, Default)]
pub struct PeerStats {
    pub(super) accepted: AtomicU64,
    pub(super) dialed: AtomicU64,
    pub(super) over_limit: AtomicU64,
    pub(super) garbage: AtomicU64,
    pub(super) too_slow: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) violations: AtomicU64,
    complaints: Mutex<Complaints>,
}

#[derive(Debug, Default)]
struct Complaints {
    last: Option<Instant>,
    suppressed: u64,
}

/// [`PeerStats`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatsSnapshot {
    /// Connections accepted whose handshake was completed.
    pub accepted: u64,
    /// Connections dialed whose handshake was completed.
    pub dialed: u64,
    /// Connections closed unheard, because too many were open.
    pub over_limit: u64,
    /// Connections closed because what they sent first was not our protocol.
    pub garbage: u64,
    /// Connections closed because their handshake took too long.
    pub too_slow: u64,
    /// Handshakes that this node refused.
    pub refused: u64,
    /// Authenticated connections closed because they broke the protocol.
    pub violations: u64,
}

impl PeerStats {
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters now.
    pub fn snapshot(&self) -> StatsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StatsSnapshot {
            accepted: read(&self.accepted),
            dialed: read(&self.dialed),
            over_limit: read(&self.over_limit),
            garbage: read(&self.garbage),
            too_slow: read(&self.too_slow),
            refused: read(&self.refused),
            violations: read(&self.violations),
        }
    }

    /// Whether a complaint may be logged now and, if so, how many were not since the last one.
    /// Strangers decide how often there is reason to complain: they must not fill the log.
    pub(super) fn may_complain(&self) -> Option<u64> {
        let mut complaints = self
            .complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if complaints
            .last
            .is_some_and(|last| now - last < COMPLAINT_INTERVAL)
        {
            complaints.suppressed += 1;
            return None;
        }
        complaints.last = Some(now);
        Some(std::mem::take(&mut complaints.suppressed))
    }
}
