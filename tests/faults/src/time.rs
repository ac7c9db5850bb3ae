//! The one clock of a history.

use std::time::Instant;

use evermind_checker::history::Moment;

/// Counts from its making.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeline(Instant);

impl Timeline {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Moment {
        self.at(Instant::now())
    }

    pub(crate) fn at(self, instant: Instant) -> Moment {
        let since = instant.saturating_duration_since(self.0).as_nanos();
        Moment(u64::try_from(since).expect("a run is shorter than 500 years"))
    }
}
