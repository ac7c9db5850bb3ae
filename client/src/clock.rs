//! The clock that deadlines are measured on.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// One part in this many is given up for the drift between two machines' clock rates: 1%.
pub const DRIFT_DIVISOR: u32 = 100;

// A lease goes on while the machine sleeps, so sleep must count. On macOS CLOCK_MONOTONIC counts it;
// on Linux only CLOCK_BOOTTIME does (and std's Instant does not use it).
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

/// A moment of a clock that never goes back and goes on while the machine sleeps. Comparable only
/// within one boot of one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// Now.
    pub fn now() -> Self {
        let now = clock_gettime(CLOCK).expect("every supported kernel has this clock");
        Self(Duration::from(now))
    }

    /// How long after the machine's boot this is: another process of this machine can be told.
    pub fn since_boot(self) -> Duration {
        self.0
    }

    /// The moment that [`Moment::since_boot`] gave, perhaps in another process.
    pub fn at_since_boot(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// This much later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// This much earlier, but not before the boot.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }

    /// How long until this moment; zero if it has passed.
    pub fn left(self) -> Duration {
        self.since(Self::now())
    }
}

/// Until when a grant may be relied on: the moment before its request was sent, plus what the
/// cluster counted since (`waited`) and from then on (`expires_in`), less 1% of both, because the
/// cluster's clock may run that much faster than ours over the whole of that span.
pub fn deadline(sent: Moment, waited: Duration, expires_in: Duration) -> Moment {
    let span = waited.saturating_add(expires_in);
    sent.plus(span.saturating_sub(span / DRIFT_DIVISOR))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment(Duration::from_millis(ms))
    }

    #[test]
    fn deadline_counts_from_before_the_request_less_one_percent() {
        let ms = Duration::from_millis;
        assert_eq!(deadline(at(1_000), ms(0), ms(5_000)), at(5_950));
        // A minute in line, counted by the cluster, drifts as much as the lease does.
        assert_eq!(deadline(at(1_000), ms(60_000), ms(5_000)), at(65_350));
        assert_eq!(deadline(at(7), ms(0), ms(0)), at(7));
    }

    #[test]
    fn moments_saturate() {
        assert_eq!(at(5).since(at(9)), Duration::ZERO);
        assert_eq!(at(5).minus(Duration::from_millis(9)), at(0));
        assert!(deadline(at(1), Duration::MAX, Duration::MAX) > at(1));
    }

    #[test]
    fn the_clock_goes_forward() {
        let first = Moment::now();
        assert!(Moment::now() >= first);
    }
}
