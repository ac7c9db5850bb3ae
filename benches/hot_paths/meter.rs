//! What is measured of a round, and what is not.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// One round: it may prepare and clear up, and hands what is to be measured to the meter.
pub(crate) type Round = Box<dyn FnMut(&mut Meter)>;

/// Something to measure.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// `group/name`, as counts.toml has it.
    pub(crate) name: &'static str,
    /// Builds what the rounds work on; not measured.
    pub(crate) prepare: fn() -> Round,
}

/// Measures parts of a round.
pub(crate) enum Meter {
    /// Not at all.
    Off,
    /// By whoever watches [`counted_by_callgrind`].
    Instructions,
    /// The sum of the parts.
    Time(Duration),
}

impl Meter {
    pub(crate) fn time() -> Self {
        Meter::Time(Duration::ZERO)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        match self {
            Meter::Time(elapsed) => *elapsed,
            Meter::Off | Meter::Instructions => Duration::ZERO,
        }
    }

    /// Does the work. What it returns is dropped by the caller, unmeasured.
    pub(crate) fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        match self {
            Meter::Off => black_box(work()),
            Meter::Instructions => {
                let mut work = Some(work);
                let mut made = None;
                counted_by_callgrind(&mut || {
                    made = work.take().map(|work| work());
                });
                made.expect("it was called")
            }
            Meter::Time(elapsed) => {
                let start = Instant::now();
                let made = black_box(work());
                *elapsed += start.elapsed();
                made
            }
        }
    }
}

/// Callgrind is told this name: it collects from the call to the return. See xtask/src/counts.rs.
#[inline(never)]
fn counted_by_callgrind(work: &mut dyn FnMut()) {
    work();
    black_box(());
}
