//! How often, how fast and how long to try again.

use std::time::Duration;

use crate::clock::Moment;

/// How long a call may be in trouble before it is given up.
pub(crate) const TROUBLE_MAX: Duration = Duration::from_secs(30);
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// The course of one call: what is still trouble, and how long it has been.
#[derive(Default)]
pub(crate) struct Course {
    trouble_since: Option<Moment>,
    setbacks: u32,
}

impl Course {
    /// A good sign: a request stood in line, as it should. Trouble counts anew from the next setback.
    pub(crate) fn stood(&mut self) {
        *self = Self::default();
    }

    /// A try came to nothing at `now`: the pause before the next, or `None` to give up. `since`: when
    /// the trouble began if it began with this try. `least`: how long to stay away, as the server
    /// asked. `random` is uniform over `u64`.
    pub(crate) fn pause(
        &mut self,
        since: Moment,
        now: Moment,
        least: Duration,
        random: u64,
    ) -> Option<Duration> {
        let since = *self.trouble_since.get_or_insert(since);
        let ceiling = BACKOFF_FIRST
            .saturating_mul(1 << self.setbacks.min(10))
            .min(BACKOFF_MAX);
        self.setbacks += 1;
        // Full jitter: uniform between nothing and the ceiling, to the microsecond.
        let micros_max = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX);
        let jitter = Duration::from_micros(random % (micros_max + 1));
        let pause = least.saturating_add(jitter);
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
        let mut course = Course::default();
        let mut now = start;
        let mut pauses = Vec::new();
        while let Some(pause) = course.pause(now, now, Duration::ZERO, highest(pauses.len())) {
            pauses.push(pause.as_millis());
            now = now.plus(pause);
        }
        assert_eq!(pauses[..7], [50, 100, 200, 400, 800, 1600, 2000]);
        assert!(now.since(start) < TROUBLE_MAX && now.since(start) > s(27));
    }

    #[test]
    fn jitter_is_full() {
        let now = Moment::now();
        let pause = |random| Course::default().pause(now, now, Duration::ZERO, random);
        assert_eq!(pause(0), Some(Duration::ZERO));
        assert_eq!(pause(50_000), Some(BACKOFF_FIRST));
        assert_eq!(pause(50_001), Some(Duration::ZERO));
    }

    #[test]
    fn trouble_counts_from_the_last_good_sign() {
        let start = Moment::now();
        let after = |span| start.plus(span);
        let mut course = Course::default();
        assert!(course.pause(start, after(s(20)), s(0), 0).is_some());
        course.stood();
        let died = after(s(299));
        assert!(course.pause(died, died, s(0), 0).is_some());
        assert!(course.pause(died, died.plus(s(29)), s(0), 0).is_some());
        assert!(course.pause(died, died.plus(s(31)), s(0), 0).is_none());
    }

    #[test]
    fn waits_as_long_as_the_server_asks_but_not_past_the_end() {
        let now = Moment::now();
        let pause = |least| Course::default().pause(now, now, least, 0);
        assert_eq!(pause(s(3)), Some(s(3)));
        assert_eq!(pause(s(31)), None);
    }
}
