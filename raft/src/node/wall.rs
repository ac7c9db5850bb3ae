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

/// A date further ahead is approached at one part in this many of the time that passes, on top of
/// that time.
const CATCH_UP_PART: u64 = 4;

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

    /// What the date should be by now.
    fn expected_ms(&self, since_boot: Duration) -> Option<u64> {
        let (seen_ms, at) = self.seen?;
        Some(seen_ms.saturating_add(millis(since_boot.saturating_sub(at))))
    }

    /// Entries were applied, and the table's wall clock is at this.
    pub(super) fn applied(&mut self, wall_ms: u64, since_boot: Duration) {
        // What is later than expected is news; what is earlier, from a slow clock, takes nothing back.
        let known_ms = self.expected_ms(since_boot).or(self.replayed_ms);
        if known_ms.is_some_and(|known_ms| known_ms < wall_ms) {
            self.seen = Some((wall_ms, since_boot));
        }
    }

    /// The date to put on an entry.
    pub(super) fn read(&mut self, machine_ms: u64, since_boot: Duration) -> u64 {
        let (Some((_, at)), Some(expected_ms)) = (self.seen, self.expected_ms(since_boot)) else {
            return machine_ms;
        };
        if machine_ms <= expected_ms.saturating_add(AHEAD_MAX_MS) {
            return machine_ms;
        }
        let now = Instant::now();
        if self.told.is_none_or(|told| now >= told + TELL_EVERY) {
            self.told = Some(now);
            tracing::error!(
                machine_ms,
                expected_ms,
                "this machine's date is more than an hour ahead of what the cluster has seen; for licences it is approached slowly. Look at its clock; if it is right and must count at once, stop all nodes, then start them"
            );
        }
        // Wrong, there is time to mend it; right after all, it is reached in time.
        let catching_up = millis(since_boot.saturating_sub(at)) / CATCH_UP_PART;
        machine_ms.min(expected_ms.saturating_add(catching_up.min(AHEAD_MAX_MS)))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
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
        // The machine believes that it is a year later: twenty seconds count as twenty-five.
        assert_eq!(wall.read(31_536_000_000, s(120)), 1_025_000);
        wall.applied(1_025_000, s(120));
        assert_eq!(wall.read(31_536_000_000, s(130)), 1_037_500);
        // Mended, it counts again; what is a little ahead or behind always did.
        assert_eq!(wall.read(1_041_000, s(140)), 1_041_000);
        assert_eq!(wall.read(900_000, s(150)), 900_000);
    }

    #[test]
    fn a_slow_clock_takes_nothing_back() {
        let mut wall = WallClock::default();
        wall.caught_up(0);
        wall.applied(1_000_000, s(0));
        // Ten hours later somebody leads whose clock is five hours behind.
        wall.applied(19_000_000, s(36_000));
        assert_eq!(wall.read(37_000_000, s(36_000)), 37_000_000);
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
