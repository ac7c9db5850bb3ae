//! When nothing was wrong: then everything has to be in time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use evermind_checker::health::check_served;
use evermind_checker::history::{History, Moment};
use evermind_checker::{Health, Healthy, Violation};

use crate::time::Timeline;

/// Nothing counts before it has been quiet for so long.
const QUIET: Duration = Duration::from_secs(2);

/// How long a healed cluster is watched after that.
const WATCHED: Duration = Duration::from_secs(3);

/// After the heal every client is served within this time.
const SERVED_WITHIN_MS: u64 = 30_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Calm(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    since: Option<Moment>,
    mended: Option<Moment>,
    spells: Vec<Healthy>,
}

impl Calm {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on nothing is wrong.
    pub(crate) fn begins(&self, timeline: &Timeline) {
        self.state().since = Some(timeline.now());
    }

    /// Something is wrong again, or nothing more is asked.
    pub(crate) fn ends(&self, timeline: &Timeline) {
        let mut state = self.state();
        let until = timeline.now();
        if let Some(quiet) = state.since.take() {
            let quiet_ns = u64::try_from(QUIET.as_nanos()).expect("short");
            let from = Moment(quiet.0 + quiet_ns);
            if from < until {
                state.spells.push(Healthy {
                    quiet,
                    clear: quiet,
                    from,
                    until,
                });
            }
        }
    }

    /// Everything is mended from here on; each node serves by now.
    pub(crate) fn watch_healed(&self, mended: Moment, timeline: &Timeline) {
        self.state().mended = Some(mended);
        self.begins(timeline);
        thread::sleep(QUIET + WATCHED);
    }

    /// How long it lasted, in ms.
    pub(crate) fn lasted_ms(&self) -> u64 {
        let lasted = |spell: &Healthy| spell.until.0 - spell.from.0;
        self.state().spells.iter().map(lasted).sum::<u64>() / 1_000_000
    }

    /// For the checker.
    pub(crate) fn health(&self) -> Health {
        Health::on_real_machines(self.state().spells.clone())
    }

    /// Who was not served after the heal.
    pub(crate) fn unserved(&self, history: &History, clients: u64) -> Vec<Violation> {
        let mended = self.state().mended;
        mended.map_or_else(Vec::new, |mended| {
            check_served(history, 0..clients, mended, SERVED_WITHIN_MS)
        })
    }
}
