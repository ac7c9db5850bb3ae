//! The second half of the proof: the committed log as the order of everything, and whether every
//! answer fits it. Costs the length of the log and of the history.

mod answers;
mod brackets;
mod expected;
mod line;
mod looks;
mod once;
mod present;
mod punctual;
mod reached;
mod replay;
mod replicas;

use std::collections::BTreeMap;

use evermind_lock::command::{LicenceId, NodeId};

use crate::clocks::ClockBound;
use crate::committed::Committed;
use crate::health::Health;
use crate::history::{Ask, History, Record, Told};
use crate::stored::TableState;
use crate::verdict::{Check, Verdict, Violation};

pub use present::{LiveLock, LiveView};
pub use replay::Entries;

/// What is there in the end: whatever is missing is not checked.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    /// The table of each node, at the committed index.
    pub tables: BTreeMap<NodeId, TableState>,
    /// What each node says that each licence was charged, in its current period.
    pub used: BTreeMap<NodeId, BTreeMap<LicenceId, u64>>,
    /// What the nodes showed of their tables while they ran.
    pub live: Vec<LiveView>,
    /// When nothing was wrong.
    pub health: Option<Health>,
}

/// Checks a history against the committed log: W0 to W5, Q and L on the log, and where it is known when
/// nothing was wrong, T2, T3 and T5.
///
/// Every request must be recorded, those without an answer too. The log must reach beyond the last
/// of them: after the heal, when nothing is under way any more.
pub fn check_witness(
    history: &History,
    committed: &Committed,
    clocks: ClockBound<'_>,
    ends: &Ends,
) -> Verdict {
    let mut verdict = Verdict {
        operations: history.records.len() as u64,
        ambiguous: history.records.iter().filter(is_ambiguous).count() as u64,
        ..Verdict::default()
    };
    let replay = replay::run(history, committed, &mut verdict);
    once::check_unknown(history, &replay, &mut verdict);
    once::check_stale(history, &replay, &mut verdict);
    once::check_given_back(history, &replay, &mut verdict);
    brackets::check_order(history, &replay, &mut verdict);
    brackets::check_clock(history, &replay, clocks, &mut verdict);
    line::check(history, &replay, &mut verdict);
    looks::check(history, committed, &replay, &mut verdict);
    replicas::check(committed, &replay, ends, &mut verdict);
    present::check(committed, &ends.live, &mut verdict);
    if let Some(health) = &ends.health {
        punctual::check(history, &replay, health, &mut verdict);
    }
    verdict.reached = replay.reached.0;
    verdict
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_ambiguous(record: &&Record) -> bool {
    record.told == Told::Unknown && record.ask != Ask::Look
}

/// Adds a breach.
fn broken(verdict: &mut Verdict, check: Check, what: impl Into<String>) {
    verdict.violations.push(Violation::new(check, what));
}

/// A record for people.
fn shown(record: &Record) -> String {
    let index = record
        .log_index
        .map_or(String::new(), |index| format!(" at entry {index}"));
    format!(
        "client {} asked node {} {:?} of '{}' as '{}' and was told {:?}{index} ({} to {} ns)",
        record.client,
        record.node,
        record.ask,
        record.key,
        record.uuid,
        record.told,
        record.invoked.0,
        record.returned.0,
    )
}
