//! The wall clock that entries carry, for licence dates and usage periods alone.
//!
//! One machine with a wrong date must not end every licence, and what it once brought into the log
//! stays: the table's wall clock never goes back. So a machine's date counts only as far as it fits
//! what the cluster has seen: the newest date that was applied, and the time since by the monotonic
//! clock.

use std::time::Duration;

use tokio::time::Instant;

/// How far a machine's date may be ahead of what the cluster has seen. Ordinary clocks, kept by NTP
/// or set by hand, differ by far less.
const AHEAD_MAX_MS: u64 = 3_600_000;

/// How often a wrong date is told.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// What the cluster has seen of the wall clock.
#[derive(Debug, Default)]
pub(super) struct WallClock {
    /// The newest date applied since this node caught up, and when, by the monotonic clock. `None`:
    /// nothing to compare with yet, as when a whole cluster starts after months.
    seen: Option<(u64, Duration)>,
    /// The newest date when this node had caught up: only what is newer was made since, and not
    /// replayed.
    replayed_ms: Option<u64>,
    told: Option<Instant>,
}

impl WallClock {
    /// This node has caught up, and the table's wall clock is at this.
    pub(super) fn caught_up(&mut self, wall_ms: u64) {
        self.replayed_ms = Some(wall_ms);
    }

    /// Entries were applied, and the table's wall clock is at this.
    pub(super) fn applied(&mut self, wall_ms: u64, since_boot: Duration) {
        let known_ms = self.seen.map(|(seen_ms, _)| seen_ms).or(self.replayed_ms);
        if known_ms.is_some_and(|known_ms| known_ms < wall_ms) {
            self.seen = Some((wall_ms, since_boot));
        }
    }

    /// The date to put on an entry.
    pub(super) fn read(&mut self, machine_ms: u64, since_boot: Duration) -> u64 {
        let Some((seen_ms, at)) = self.seen else {
            return machine_ms;
        };
        let passed = since_boot.saturating_sub(at).as_millis();
        let expected_ms = seen_ms.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX));
        if machine_ms <= expected_ms.saturating_add(AHEAD_MAX_MS) {
            return machine_ms;
        }
        let now = Instant::now();
        if self.told.is_none_or(|told| now >= told + TELL_EVERY) {
            self.told = Some(now);
            tracing::error!(
                machine_ms,
                expected_ms,
                "this machine's date is more than an hour ahead of what the cluster has seen, and does not count for licences; if it is right, restart this node"
            );
        }
        expected_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_jump_of_the_date_does_not_count() {
        let mut wall = WallClock::default();
        wall.caught_up(0);
        wall.applied(1_000_000, s(100));
        assert_eq!(wall.read(1_010_000, s(110)), 1_010_000);
        // Ten seconds on, the machine believes that it is a year later.
        assert_eq!(wall.read(31_536_000_000, s(120)), 1_020_000);
        wall.applied(1_020_000, s(120));
        assert_eq!(wall.read(31_536_000_000, s(130)), 1_030_000);
        // Mended, it counts again; what is a little ahead or behind always did.
        assert_eq!(wall.read(1_041_000, s(140)), 1_041_000);
        assert_eq!(wall.read(900_000, s(150)), 900_000);
    }

    #[test]
    fn a_cluster_that_was_off_for_months_takes_the_date_as_it_is() {
        let mut wall = WallClock::default();
        // Replayed from the log at the start.
        wall.applied(1_000_000, s(1));
        assert_eq!(wall.read(31_536_000_000, s(2)), 31_536_000_000);
        wall.caught_up(1_000_000);
        // Entries without a date.
        wall.applied(1_000_000, s(3));
        assert_eq!(wall.read(31_536_000_000, s(3)), 31_536_000_000);
        wall.applied(31_536_000_000, s(3));
        assert_eq!(wall.read(31_536_001_000, s(4)), 31_536_001_000);
    }
}
