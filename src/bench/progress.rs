//! A bar on stderr while a person waits.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tally::Tally;

/// Often enough to be alive; percentiles are read each time.
const EVERY: Duration = Duration::from_millis(200);
const PREPARING: &str = "{spinner} {msg}";
const MEASURING: &str = "{elapsed_precise} [{bar:30}] {msg}";

/// The bar; clones are the same one. Nothing is drawn where stderr is no terminal.
#[derive(Clone)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar for a run of this length; without one if `quiet`.
    pub(super) fn new(duration: Duration, quiet: bool) -> Self {
        let target = if quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let length = crate::duration::as_ms(duration);
        Self {
            bar: ProgressBar::with_draw_target(Some(length), target),
        }
    }

    fn style(&self, template: &str) {
        let style = ProgressStyle::with_template(template).expect("the template is a constant");
        self.bar.set_style(style.progress_chars("=> "));
    }

    /// Tells what is being made ready, until `end` says that the measuring begins.
    pub(super) fn prepare(&self, what: &'static str) {
        self.style(PREPARING);
        self.bar.set_message(what);
    }

    /// Follows a tally from now on, until dropped.
    pub(super) async fn follow(self, tally: Rc<RefCell<Tally>>) {
        if self.bar.is_hidden() {
            return;
        }
        self.style(MEASURING);
        self.bar.reset_elapsed();
        let start = Instant::now();
        let mut tick = tokio::time::interval(EVERY);
        loop {
            tick.tick().await;
            let now = Instant::now();
            self.bar.set_message(tally.borrow().progress(now));
            self.bar.set_position(crate::duration::as_ms(now - start));
        }
    }

    /// Leaves the line to the results.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
