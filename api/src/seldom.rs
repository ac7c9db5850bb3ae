//! A warning that many requests would write, once a minute.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_mins(1);

/// One kind of warning.
pub(crate) struct Seldom {
    /// When it was last written, and how often it came about since.
    state: Mutex<(Option<Instant>, u64)>,
}

impl Seldom {
    pub(crate) const fn new() -> Self {
        Self {
            state: Mutex::new((None, 0)),
        }
    }

    /// Whether to write it now, and if so, how often it came about since it was written last, this
    /// time included.
    pub(crate) fn due(&self) -> Option<u64> {
        self.due_at(Instant::now())
    }

    fn due_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (written, count) = &mut *state;
        *count += 1;
        if written.is_some_and(|written| now.duration_since(written) < EVERY) {
            return None;
        }
        *written = Some(now);
        Some(std::mem::take(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_minute_with_what_was_left_out() {
        let warning = Seldom::new();
        let start = Instant::now();
        assert_eq!(warning.due_at(start), Some(1));
        assert_eq!(warning.due_at(start + Duration::from_secs(1)), None);
        assert_eq!(warning.due_at(start + Duration::from_secs(59)), None);
        assert_eq!(warning.due_at(start + Duration::from_mins(1)), Some(3));
    }
}
