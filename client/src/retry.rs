//! How often, how fast and how long to try again.

use std::time::Duration;

use crate::clock::Moment;

/// How long a call may be in trouble before it is given up.
pub(crate) const TROUBLE_MAX: Duration = Duration::from_secs(30);
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A connection that lasted this long before it broke had been standing in line, not failing.
const STANDING_MIN: Duration = Duration::from_secs(1);

/// What went wrong with one try, as far as trying again is concerned.
pub(crate) enum Setback {
    /// The connection broke, or was refused.
    Broken,
    /// No answer in time, or an answer that asks to come again, perhaps saying when.
    Later(Option<Duration>),
}

/// The course of one call.
pub(crate) struct Course {
    /// Until when a broken connection may have been one that stood in line.
    standing_until: Moment,
    trouble_since: Option<Moment>,
    setbacks: u32,
}

impl Course {
    /// A call that starts at `start` and may stand in line for `window`.
    pub(crate) fn new(start: Moment, window: Duration) -> Self {
        Self {
            standing_until: start.plus(window),
            trouble_since: None,
            setbacks: 0,
        }
    }

    /// The try sent at `sent` came to nothing at `now`: the pause before the next, or `None` to
    /// give up. `random` is uniform over `u64`.
    pub(crate) fn pause(
        &mut self,
        sent: Moment,
        now: Moment,
        setback: &Setback,
        random: u64,
    ) -> Option<Duration> {
        let stood = matches!(setback, Setback::Broken)
            && now.since(sent) >= STANDING_MIN
            && now <= self.standing_until;
        if stood {
            self.trouble_since = None;
            self.setbacks = 0;
        }
        let since = *self
            .trouble_since
            .get_or_insert(if stood { now } else { sent });
        let ceiling = BACKOFF_FIRST
            .saturating_mul(1 << self.setbacks.min(10))
            .min(BACKOFF_MAX);
        self.setbacks += 1;
        // Full jitter: uniform between nothing and the ceiling, to the microsecond.
        let micros_max = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX);
        let jitter = Duration::from_micros(random % (micros_max + 1));
        let pause = match setback {
            Setback::Later(Some(least)) => least.saturating_add(jitter),
            _ => jitter,
        };
        (now.plus(pause) < since.plus(TROUBLE_MAX)).then_some(pause)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// What draws the longest pause there may be after this many setbacks.
    fn highest(setbacks: usize) -> u64 {
        (50_000 << setbacks.min(10)).min(2_000_000)
    }

    #[test]
    fn pauses_grow_to_a_ceiling_and_end_after_thirty_seconds() {
        let start = Moment::now();
        let mut course = Course::new(start, Duration::ZERO);
        let mut now = start;
        let mut pauses = Vec::new();
        while let Some(pause) = course.pause(now, now, &Setback::Broken, highest(pauses.len())) {
            pauses.push(pause.as_millis());
            now = now.plus(pause);
        }
        assert_eq!(pauses[..7], [50, 100, 200, 400, 800, 1600, 2000]);
        assert!(now.since(start) < TROUBLE_MAX && now.since(start) > s(27));
    }

    #[test]
    fn jitter_is_full() {
        let now = Moment::now();
        let pause =
            |random| Course::new(now, Duration::ZERO).pause(now, now, &Setback::Broken, random);
        assert_eq!(pause(0), Some(Duration::ZERO));
        assert_eq!(pause(50_000), Some(BACKOFF_FIRST));
        assert_eq!(pause(50_001), Some(Duration::ZERO));
    }

    #[test]
    fn standing_in_line_is_not_trouble() {
        let start = Moment::now();
        let mut course = Course::new(start, s(300));
        // The node died after five minutes less a second of waiting; thirty seconds count from there.
        let died = start.plus(s(299));
        assert!(course.pause(start, died, &Setback::Broken, 0).is_some());
        assert!(
            course
                .pause(died, died.plus(s(29)), &Setback::Later(None), 0)
                .is_some()
        );
        assert!(
            course
                .pause(died, died.plus(s(31)), &Setback::Later(None), 0)
                .is_none()
        );
    }

    #[test]
    fn waits_as_long_as_it_is_told_but_not_past_the_end() {
        let now = Moment::now();
        let pause = |least| Course::new(now, s(0)).pause(now, now, &Setback::Later(Some(least)), 0);
        assert_eq!(pause(s(3)), Some(s(3)));
        assert_eq!(pause(s(31)), None);
    }
}
