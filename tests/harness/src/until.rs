//! Waiting for a condition, never for an amount of time.

use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at. Short against everything that the stories wait for.
const POLL_EVERY: Duration = Duration::from_millis(10);

/// Looks until `probe` has an answer, and panics with `what` if that takes longer than `within`.
#[track_caller]
pub fn until<T>(what: &str, within: Duration, probe: impl FnMut() -> Option<T>) -> T {
    until_or(within, probe).unwrap_or_else(|| panic!("not within {within:?}: {what}"))
}

/// Looks until `probe` has an answer, for at most `within`.
pub fn until_or<T>(within: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(POLL_EVERY);
    }
}
