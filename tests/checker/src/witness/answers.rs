//! W0, W3, W4: each answer against its entry. And W2 where the difference is a lease that ended
//! although it had not run out.

use std::cmp::Reverse;
use std::collections::HashMap;

use evermind_lock::command::OpId;
use evermind_lock::outcome::{Outcome, Refusal};

use super::replay::{Replay, Seen, Want};
use super::{broken, expected, shown};
use crate::committed::Committed;
use crate::history::{Ask, History, Record, Told};
use crate::verdict::{Check, Verdict};

/// One answer that an entry gives, by the specification.
pub(super) struct Candidate {
    pub(super) operation: OpId,
    pub(super) outcome: Outcome,
    /// Whether it repeats an earlier one.
    pub(super) repeated: bool,
}

/// The records by the entry of their answer.
pub(super) struct Answers {
    at: HashMap<u64, Vec<usize>>,
    /// Those whose entry is not there.
    stray: Vec<usize>,
}

impl Answers {
    /// Answers without an entry, or of an entry that is not there, are told at once.
    pub(super) fn new(history: &History, committed: &Committed, verdict: &mut Verdict) -> Self {
        let mut at: HashMap<u64, Vec<usize>> = HashMap::new();
        let mut stray = Vec::new();
        for (number, record) in history.records.iter().enumerate() {
            if record.told == Told::Unknown || record.ask == Ask::Look {
                continue;
            }
            match record.log_index {
                None if expected::needs_entry(&record.told) => {
                    let what = format!("an answer of no entry: {}", shown(record));
                    broken(verdict, Check::W0, what);
                    stray.push(number);
                }
                None => {}
                Some(index)
                    if index < committed.first_index()
                        || committed.last_index().is_none_or(|last| last < index) =>
                {
                    let what = format!("the log has no such entry: {}", shown(record));
                    broken(verdict, Check::W0, what);
                    stray.push(number);
                }
                Some(index) => at.entry(index).or_default().push(number),
            }
        }
        Self { at, stray }
    }

    /// Once all is replayed: what a wrong answer was an answer to is blamed on nobody else.
    pub(super) fn finish(self, history: &History, replay: &mut Replay) {
        for number in self.stray {
            claim_own(number, &history.records[number], replay);
        }
    }

    /// Holds the answers of an entry that was just replayed against what it gives.
    pub(super) fn check(
        &mut self,
        index: u64,
        candidates: &[Candidate],
        history: &History,
        replay: &mut Replay,
        verdict: &mut Verdict,
    ) {
        let Some(mut numbers) = self.at.remove(&index) else {
            return;
        };
        // Of requests that cannot be told apart the one sent last takes the last operation. If it was
        // not so, what follows for the real time of its entry is still true: those before it in the
        // log were asked for later than that.
        numbers.sort_by_key(|number| Reverse(history.records[*number].invoked));
        // Those that fit exactly first, so that none of them is blamed for another.
        numbers.retain(|number| {
            let record = &history.records[*number];
            let fits = |candidate: &&Candidate| {
                expected::told(&candidate.outcome).is_some_and(|told| {
                    expected::is_same(&record.ask, &record.told, &told)
                        && is_free(replay, candidate.operation, record)
                })
            };
            let fitting = candidates.iter().filter(fits).map(|c| c.operation);
            match fitting.max_by_key(|operation| place(replay, *operation, record)) {
                Some(operation) => {
                    claim(replay, operation, *number);
                    false
                }
                None => !is_present(*number, record, replay),
            }
        });
        for number in numbers {
            let record = &history.records[number];
            let candidate = candidates
                .iter()
                .find(|candidate| is_free(replay, candidate.operation, record));
            if let Some(candidate) = candidate {
                let check = blame(record, candidate, replay);
                let what = format!(
                    "{}, but the specification gives {:?}",
                    shown(record),
                    candidate.outcome
                );
                broken(verdict, check, what);
                claim(replay, candidate.operation, number);
            } else {
                elsewhere(record, replay, verdict);
                claim_own(number, record, replay);
            }
        }
    }
}

fn is_free(replay: &Replay, operation: OpId, record: &Record) -> bool {
    let seen = replay.operations.get(&operation);
    seen.is_some_and(|seen| seen.claimed_by.is_none() && seen.is_of(record))
}

/// A node answers for its own operations; of those, by the order of the log.
fn place(replay: &Replay, operation: OpId, record: &Record) -> (bool, u64) {
    let seen = replay.operations.get(&operation);
    let index = seen.map_or(0, |seen| seen.index);
    (operation.node == record.node, index)
}

fn claim(replay: &mut Replay, operation: OpId, number: usize) {
    if let Some(seen) = replay.operations.get_mut(&operation) {
        seen.claimed_by = Some(number);
    }
    replay.answered_by[number] = Some(operation);
}

/// Takes the first operation of the record that answered nobody as what it asked for.
fn claim_own(number: usize, record: &Record, replay: &mut Replay) {
    let operations = replay.operations_of(record).iter();
    let free = operations.filter(|operation| is_free(replay, **operation, record));
    if let Some(operation) = free.max_by_key(|op| place(replay, **op, record)).copied() {
        claim(replay, operation, number);
    }
}

/// A node that was given a snapshot while an acquire waited answers it by what it finds: the newest
/// entry stands for it, and what is told is the present.
fn is_present(number: usize, record: &Record, replay: &mut Replay) -> bool {
    let fits = |seen: &Seen| {
        if seen.claimed_by.is_some() || !seen.is_of(record) {
            return false;
        }
        match &record.told {
            Told::Granted {
                token,
                expires_in_ms,
                waited_ms: 0,
                attempts,
            } => {
                let held = seen.resource.as_ref();
                let held = held.and_then(|resource| replay.model.holder(resource));
                held.is_some_and(|held| {
                    *held.holder == seen.holder
                        && held.token == *token
                        && held.attempts == *attempts
                        && *expires_in_ms <= held.expires_ms - replay.model.now_ms()
                })
            }
            Told::Refused { code, .. } => match replay.model.identity_of(seen.caller) {
                Err(Refusal::Unauthorized) => code == "unauthorized",
                Err(_) => code == "licence_inactive",
                Ok(_) => false,
            },
            _ => false,
        }
    };
    if !matches!(record.ask, Ask::Acquire { .. }) {
        return false;
    }
    let operations = replay.operations_of(record).iter();
    let fitting = operations.filter(|operation| replay.operations.get(operation).is_some_and(fits));
    let found = fitting
        .max_by_key(|op| place(replay, **op, record))
        .copied();
    if let Some(operation) = found {
        claim(replay, operation, number);
    }
    found.is_some()
}

/// Which rule a wrong answer breaks.
fn blame(record: &Record, candidate: &Candidate, replay: &Replay) -> Check {
    let lost = |code: &str| matches!(code, "lock_not_found" | "not_owner" | "grant_ended");
    match (&record.told, &candidate.outcome) {
        _ if candidate.repeated => Check::W4,
        // It holds the lock, and was told that it does not.
        (
            Told::Refused { code, .. },
            Outcome::Granted(_) | Outcome::Extended { .. } | Outcome::Released,
        ) if lost(code) => Check::W2,
        (Told::Granted { .. }, Outcome::Queued | Outcome::Refused(Refusal::LockHeld { .. })) => {
            let seen = replay.operations.get(&candidate.operation);
            seen.map_or(Check::W3, |seen| granted_over(seen, replay))
        }
        _ => Check::W3,
    }
}

/// A grant that the specification does not make breaks W2 if another still holds the lock.
fn granted_over(seen: &Seen, replay: &Replay) -> Check {
    let held = seen.resource.as_ref();
    match held.and_then(|resource| replay.model.holder(resource)) {
        Some(held) if *held.holder != seen.holder => Check::W2,
        _ => Check::W3,
    }
}

/// No answer of this entry is free for the record: is it in the log at all?
fn elsewhere(record: &Record, replay: &Replay, verdict: &mut Verdict) {
    let of_it = |operation: &&OpId| {
        let seen = replay.operations.get(operation);
        seen.is_some_and(|seen| seen.is_of(record))
    };
    let own: Vec<_> = replay.operations_of(record).iter().filter(of_it).collect();
    let seen = own
        .iter()
        .filter_map(|operation| replay.operations.get(operation))
        .find(|seen| seen.claimed_by.is_none());
    match seen {
        Some(seen) => {
            let waits = matches!(seen.want, Want::Acquire { .. }) && seen.ended_ms.is_none();
            let (check, why) = match &record.told {
                Told::Granted { .. } if waits => (
                    granted_over(seen, replay),
                    "it still waits by the specification",
                ),
                _ if waits => (Check::W3, "it still waits by the specification"),
                _ => (Check::W0, "its answer is of another entry"),
            };
            let what = format!(
                "{}, but {why} (asked in entry {})",
                shown(record),
                seen.index
            );
            broken(verdict, check, what);
        }
        None if own.is_empty() => {
            let what = format!("not in the log: {}", shown(record));
            broken(verdict, Check::W0, what);
        }
        None => {
            let what = format!(
                "its entry already answered another request: {}",
                shown(record)
            );
            broken(verdict, Check::W4, what);
        }
    }
}
