//! What a run reached: which actions, outcomes and events its log has. A path that no seed takes is not
//! proved by any.

use std::collections::BTreeMap;
use std::fmt::Debug;

use evermind_lock::outcome::{Event, Outcome};

/// Counts by name.
#[derive(Debug, Default)]
pub(super) struct Reached(pub(super) BTreeMap<String, u64>);

impl Reached {
    pub(super) fn action(&mut self, action: &impl Debug) {
        self.count(format!("action {}", variant(action)));
    }

    pub(super) fn outcome(&mut self, outcome: &Outcome) {
        self.count(format!("outcome {}", named(outcome)));
    }

    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::WaitEnded { outcome, .. } => self.count(format!("wait {}", named(outcome))),
            Event::Detached { .. } => self.count("wait Detached".to_owned()),
        }
    }

    fn count(&mut self, name: String) {
        *self.0.entry(name).or_default() += 1;
    }
}

fn named(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Refused(refusal) => format!("refused {}", variant(refusal)),
        other => variant(other),
    }
}

/// The name of an enum's variant, as `Debug` has it.
fn variant(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    text.chars().take_while(|c| c.is_alphanumeric()).collect()
}
