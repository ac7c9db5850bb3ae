//! What the checker says of a run.

use crate::world::World;

/// What was found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What must not be, each with its rule's name first.
    pub violations: Vec<String>,
    /// What could not be decided.
    pub undecided: Vec<String>,
    /// Requests that were recorded.
    pub operations: u64,
    /// Those without an answer.
    pub ambiguous: u64,
    /// Grants that were told.
    pub grants: u64,
}

/// Checks a run that is over.
pub fn check(world: &mut World, broken: Option<String>) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.violations.extend(broken);
    world.clients.recorder.with(|history| {
        use evermind_checker::history::Told;
        outcome.operations = history.records.len() as u64;
        outcome.ambiguous = history
            .records
            .iter()
            .filter(|r| r.told == Told::Unknown)
            .count() as u64;
        outcome.grants = history
            .records
            .iter()
            .filter(|r| matches!(r.told, Told::Granted { .. }))
            .count() as u64;
    });
    outcome
}
