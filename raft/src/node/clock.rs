//! Cluster time, as the leader of a term tells it.

use std::time::Duration;

#[cfg(evermind_mutants)]
use evermind_lock::mutant::{self, Mutant};

/// The most that one reading may move the clock. What a reading finds beyond this is thrown away
/// as leaderless time, so that one bad jump of the machine's clock cannot end every lease.
pub(super) const STEP_MAX: Duration = Duration::from_secs(1);

/// How often, at least, the clock is read while this node leads: well below [`STEP_MAX`], so that
/// ordinary scheduling delays lose nothing.
pub(super) const READ_EVERY: Duration = Duration::from_millis(250);

/// Where the time of this machine comes from. A seam: a simulation brings its own, which drift.
pub trait Clocks: Send + Sync + 'static {
    /// Time since boot, suspend included, never set by anyone.
    fn since_boot(&self) -> Duration;
    /// Ms since 1970, as the machine believes. For licence dates alone.
    fn wall_ms(&self) -> u64;
}

/// The machine's own clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClocks;

impl Clocks for SystemClocks {
    fn since_boot(&self) -> Duration {
        let now = nix::time::ClockId::CLOCK_BOOTTIME
            .now()
            .expect("Linux has CLOCK_BOOTTIME since 2.6.39");
        Duration::new(
            u64::try_from(now.tv_sec()).expect("time since boot is not negative"),
            u32::try_from(now.tv_nsec()).expect("nanoseconds are below a second"),
        )
    }

    fn wall_ms(&self) -> u64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The clock of one term.
///
/// - Never goes back: it starts at the applied cluster time and only moves forward.
/// - Never outruns real time, oscillator drift aside: between two readings it moves by what the
///   monotonic clock moved, or less; it moves up to the applied time, which another leader's clock
///   of the same kind made earlier.
#[derive(Debug)]
pub(super) struct TermClock {
    /// The term in which its stamps count.
    pub term: u64,
    /// Cluster time, in ns so that no reading loses a fraction.
    cluster: Duration,
    /// The monotonic clock at the last reading.
    read_at: Duration,
}

impl TermClock {
    /// Starts the clock of a term. `applied_ms` must have been read before `since_boot`, so that
    /// time passing between the two readings is lost, not gained.
    pub(super) fn anchor(term: u64, applied_ms: u64, since_boot: Duration) -> Self {
        #[cfg(evermind_mutants)]
        let applied_ms = if mutant::is(Mutant::ClockJumpsOnFailover) {
            applied_ms.max(u64::try_from(since_boot.as_millis()).unwrap_or(applied_ms))
        } else {
            applied_ms
        };
        Self {
            term,
            cluster: Duration::from_millis(applied_ms),
            read_at: since_boot,
        }
    }

    /// Cluster time now, in ms. `applied_ms` must have been read before `since_boot`.
    pub(super) fn read_ms(&mut self, applied_ms: u64, since_boot: Duration) -> u64 {
        let moved = since_boot.saturating_sub(self.read_at).min(STEP_MAX);
        self.read_at = self.read_at.max(since_boot);
        self.cluster = (self.cluster + moved).max(Duration::from_millis(applied_ms));
        u64::try_from(self.cluster.as_millis()).expect("cluster time fits in 64 bits of ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn advances_with_the_monotonic_clock() {
        let mut clock = TermClock::anchor(3, 1_000, ms(50_000));
        assert_eq!(clock.read_ms(1_000, ms(50_000)), 1_000);
        assert_eq!(clock.read_ms(1_000, ms(50_250)), 1_250);
        assert_eq!(clock.read_ms(1_000, ms(50_251)), 1_251);
    }

    #[test]
    fn keeps_fractions_of_a_millisecond() {
        let mut clock = TermClock::anchor(1, 0, Duration::ZERO);
        for i in 1..=1_000_u64 {
            clock.read_ms(0, Duration::from_micros(i * 300));
        }
        assert_eq!(clock.read_ms(0, ms(300)), 300);
    }

    #[test]
    fn one_jump_moves_it_by_a_second_at_most() {
        let mut clock = TermClock::anchor(1, 0, Duration::ZERO);
        assert_eq!(clock.read_ms(0, ms(3_600_000)), 1_000);
        assert_eq!(clock.read_ms(0, ms(3_600_100)), 1_100);
    }

    #[test]
    fn never_goes_back_though_the_machine_does() {
        let mut clock = TermClock::anchor(1, 500, ms(1_000));
        assert_eq!(clock.read_ms(500, ms(1_200)), 700);
        assert_eq!(clock.read_ms(500, ms(900)), 700);
        // The time up to 1,200 was counted already.
        assert_eq!(clock.read_ms(500, ms(1_100)), 700);
        assert_eq!(clock.read_ms(500, ms(1_300)), 800);
    }

    #[test]
    fn moves_up_to_the_applied_time() {
        let mut clock = TermClock::anchor(7, 500, ms(1_000));
        assert_eq!(clock.read_ms(9_000, ms(1_010)), 9_000);
        assert_eq!(clock.read_ms(9_000, ms(1_020)), 9_010);
    }
}
