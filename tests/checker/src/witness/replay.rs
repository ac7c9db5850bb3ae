//! The committed log, replayed by the specification, with each answer held against its entry.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use evermind_lock::command::{Action, Command, KeyId, OpId, Resume};
use evermind_lock::names::{Holder, Key, Resource};
use evermind_lock::outcome::{Event, HeldReason, Outcome, Refusal};

use super::answers::{Answers, Candidate};
use super::reached::Reached;
use crate::committed::Committed;
use crate::history::{Ask, History, Record};
use crate::spec::Model;
use crate::verdict::{Check, Verdict};

/// What an operation of the log asks for, as far as a record tells too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Want {
    Acquire {
        lease_ms: u64,
        retry_attempts: u32,
        window_ms: u64,
        fifo: bool,
    },
    Extend {
        extend_by_ms: u64,
    },
    Release,
}

impl Want {
    /// What a record asked for; a look wants nothing of the log.
    pub(super) fn of(ask: &Ask) -> Option<Self> {
        Some(match *ask {
            Ask::Acquire {
                lease_ms,
                retry_attempts,
                retry_delay_ms,
                fifo,
            } => Self::Acquire {
                lease_ms,
                retry_attempts,
                window_ms: u64::from(retry_attempts) * retry_delay_ms,
                fifo,
            },
            Ask::Extend { extend_by_ms } => Self::Extend { extend_by_ms },
            Ask::Release => Self::Release,
            Ask::Look => return None,
        })
    }
}

/// An operation, where it entered the log first.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) index: u64,
    pub(super) caller: KeyId,
    pub(super) want: Want,
    pub(super) key: Key,
    pub(super) holder: Holder,
    pub(super) idempotency: Option<String>,
    /// Whose lock, as far as its API key was known.
    pub(super) resource: Option<Resource>,
    /// Which record was answered by it.
    pub(super) claimed_by: Option<usize>,
    /// Whether it took effect: granted, extended or released, and no repetition of what did.
    pub(super) took_effect: bool,
    /// Whether it was cut loose from its wait at any time.
    pub(super) left: bool,
    /// It had no effect because its node had said that it is answered.
    pub(super) is_stale: bool,
    /// When it ended by the specification, by cluster time.
    pub(super) ended_ms: Option<u64>,
    /// When word of its caller's hang-up was in the log, by cluster time.
    pub(super) given_up_ms: Option<u64>,
    /// When it was detached from its wait as its node's, by cluster time, and until when.
    pub(super) away: Vec<(u64, Option<u64>)>,
}

/// What a request that waited was told of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    pub(super) operation: OpId,
    /// When it was due, by cluster time.
    pub(super) due_ms: u64,
    /// How much was due before.
    pub(super) overdue: u64,
    pub(super) index: u64,
    pub(super) is_grant: bool,
}

impl Seen {
    fn new(index: u64, command: &Command, model: &Model) -> Option<(OpId, Self)> {
        let operation = command.operation?.id;
        let (caller, key, holder, idempotency, want) = match &command.action {
            Action::Acquire(a) | Action::Resume(Resume { acquire: a, .. }) => {
                let want = Want::Acquire {
                    lease_ms: a.lease_ms,
                    retry_attempts: a.retry_attempts,
                    window_ms: a.window_ms,
                    fifo: a.fifo,
                };
                (a.caller, &a.key, &a.holder, &a.idempotency, want)
            }
            Action::Extend(e) => {
                let want = Want::Extend {
                    extend_by_ms: e.extend_by_ms,
                };
                (e.caller, &e.key, &e.holder, &e.idempotency, want)
            }
            Action::Release(r) => (r.caller, &r.key, &r.holder, &r.idempotency, Want::Release),
            _ => return None,
        };
        let identity = model.identity_of(caller).ok();
        let seen = Self {
            index,
            caller,
            want,
            key: key.clone(),
            holder: holder.clone(),
            idempotency: idempotency.as_ref().map(|i| i.key.as_str().to_owned()),
            resource: identity.map(|identity| Resource {
                identity,
                key: key.clone(),
            }),
            claimed_by: None,
            took_effect: false,
            left: false,
            is_stale: false,
            ended_ms: None,
            given_up_ms: None,
            away: Vec::new(),
        };
        Some((operation, seen))
    }

    /// It is away no longer.
    fn is_here(&mut self, now_ms: u64) {
        if let Some((_, until @ None)) = self.away.last_mut() {
            *until = Some(now_ms);
        }
    }

    /// Whether this may be what the record asked for.
    pub(super) fn is_of(&self, record: &Record) -> bool {
        Want::of(&record.ask) == Some(self.want)
            && self.key.as_str() == record.key
            && *self.holder.text() == *record.uuid
            && self.idempotency == record.idempotency
    }
}

/// The log as it was understood.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub(super) first_index: u64,
    pub(super) operations: BTreeMap<OpId, Seen>,
    /// The operations of each uuid on each key, in the order of the log.
    pub(super) of_uuid: HashMap<(String, String), Vec<OpId>>,
    /// Cluster time after each entry.
    pub(super) now_ms: Vec<u64>,
    /// Whether each entry has a stamp that counts.
    pub(super) stamped: Vec<bool>,
    /// The operation that answered each record.
    pub(super) answered_by: Vec<Option<OpId>>,
    /// Which acquires were given back as told to nobody, and in which entries.
    pub(super) given_back: Vec<(u64, OpId)>,
    /// Acquires that their node went on with in another operation, which answers the request.
    pub(super) resumed: BTreeSet<OpId>,
    /// Waits whose place was dropped because nobody came back to it, and when, by cluster time.
    pub(super) dropped: Vec<(u64, OpId)>,
    /// The term of each entry.
    pub(super) terms: Vec<u64>,
    /// What waits came to, in the order of the log.
    pub(super) endings: Vec<Ending>,
    pub(super) reached: Reached,
    pub(super) model: Model,
}

impl Replay {
    pub(super) fn operations_of(&self, record: &Record) -> &[OpId] {
        let uuid = (record.key.clone(), record.uuid.clone());
        self.of_uuid.get(&uuid).map_or(&[], Vec::as_slice)
    }

    /// Where the operation of a record entered the log, if it is known.
    pub(super) fn own_index(&self, record: usize) -> Option<u64> {
        let operation = self.answered_by[record]?;
        Some(self.operations.get(&operation)?.index)
    }
}

pub(super) fn run(history: &History, committed: &Committed, verdict: &mut Verdict) -> Replay {
    let mut answers = Answers::new(history, committed, verdict);
    let mut replay = Replay {
        first_index: committed.first_index(),
        answered_by: vec![None; history.records.len()],
        model: committed.model(),
        ..Replay::default()
    };
    for entry in committed.iter() {
        let index = entry.at.log_index;
        let stamp = entry.at.stamp;
        let stamped = stamp.is_some_and(|stamp| stamp.term == entry.at.term);
        replay.stamped.push(stamped);
        replay.terms.push(entry.at.term);
        let Some(command) = entry.command else {
            replay.model.apply(entry.at, None);
            replay.now_ms.push(replay.model.now_ms());
            answers.check(index, &[], history, &mut replay, verdict);
            continue;
        };
        note(&command, index, &mut replay, verdict);
        let operation = command.operation.map(|operation| operation.id);
        let action = command.action.clone();
        replay.reached.action(&action);
        let step = replay.model.apply(entry.at, Some(command));
        replay.now_ms.push(replay.model.now_ms());
        let mut candidates = Vec::new();
        if let Some(decision) = &step.decision {
            replay.reached.outcome(&decision.outcome);
        }
        if let (Some(operation), Some(decision)) = (operation, step.decision)
            && decision.log_index == index
        {
            end(&mut replay, operation, &decision.outcome, step.repeated);
            candidates.push(Candidate {
                operation,
                outcome: decision.outcome,
                repeated: step.repeated,
            });
        }
        for event in step.events {
            replay.reached.event(&event);
            match event {
                Event::WaitEnded {
                    operation, outcome, ..
                } => {
                    end(&mut replay, operation, &outcome, false);
                    if is_dropped(&outcome) {
                        replay.dropped.push((index, operation));
                    }
                    if let Some(due_ms) = step.due_ms.get(&operation) {
                        replay.endings.push(Ending {
                            operation,
                            due_ms: *due_ms,
                            overdue: step.overdue,
                            index,
                            is_grant: matches!(outcome, Outcome::Granted(_)),
                        });
                    }
                    candidates.push(Candidate {
                        operation,
                        outcome,
                        repeated: false,
                    });
                }
                Event::Detached { operation } => {
                    leave(&mut replay, operation);
                    go_away(&mut replay, operation);
                }
            }
        }
        match action {
            Action::Reattach(attachment) => come_back(&mut replay, attachment.operation),
            Action::Abandon(attachment) => give_up(&mut replay, attachment.operation),
            _ => {}
        }
        answers.check(index, &candidates, history, &mut replay, verdict);
    }
    answers.finish(history, &mut replay);
    replay
}

/// Notes an operation's first entry; a later one must be the same.
fn note(command: &Command, index: u64, replay: &mut Replay, verdict: &mut Verdict) {
    if let Action::Abandon(attachment) = &command.action {
        leave(replay, attachment.operation);
        replay.given_back.push((index, attachment.operation));
    }
    let Some((operation, seen)) = Seen::new(index, command, &replay.model) else {
        return;
    };
    if let Some(first) = replay.operations.get(&operation) {
        let same = (first.caller, first.want, &first.key, &first.holder)
            == (seen.caller, seen.want, &seen.key, &seen.holder);
        if !same || first.idempotency != seen.idempotency {
            let what = format!(
                "operation {operation:?} is {:?} of '{}' in entry {} and {:?} of '{}' in entry {index}",
                first.want, first.key, first.index, seen.want, seen.key
            );
            super::broken(verdict, Check::W4, what);
        }
        return;
    }
    if matches!(command.action, Action::Resume(_)) {
        note_resumed(operation, &seen, replay, verdict);
    }
    let uuid = (seen.key.as_str().into(), (&*seen.holder.text()).into());
    replay.of_uuid.entry(uuid).or_default().push(operation);
    replay.operations.insert(operation, seen);
}

/// A node goes on with one of its own operations, and with each once: both are of one request.
fn note_resumed(operation: OpId, seen: &Seen, replay: &mut Replay, verdict: &mut Verdict) {
    let from = OpId {
        sequence: 0,
        ..operation
    };
    let mut earlier = replay.operations.range(from..operation);
    let first = earlier.rfind(|(id, other)| {
        !replay.resumed.contains(id)
            && other.claimed_by.is_none()
            && (other.want, &other.key, &other.holder) == (seen.want, &seen.key, &seen.holder)
            && other.idempotency == seen.idempotency
    });
    if let Some((first, _)) = first {
        let first = *first;
        replay.resumed.insert(first);
        return;
    }
    let what = format!(
        "entry {} goes on with what nobody asked for: {:?} of '{}'",
        seen.index, seen.want, seen.key
    );
    super::broken(verdict, Check::W4, what);
}

fn end(replay: &mut Replay, operation: OpId, outcome: &Outcome, repeated: bool) {
    let now_ms = replay.model.now_ms();
    if let Some(seen) = replay.operations.get_mut(&operation)
        && *outcome != Outcome::Queued
        && seen.ended_ms.is_none()
    {
        seen.ended_ms = Some(now_ms);
        seen.is_stale = *outcome == Outcome::Stale;
        seen.is_here(now_ms);
        let is_effect = matches!(
            outcome,
            Outcome::Granted(_) | Outcome::Extended { .. } | Outcome::Released
        );
        seen.took_effect = is_effect && !repeated;
    }
}

fn leave(replay: &mut Replay, operation: OpId) {
    if let Some(seen) = replay.operations.get_mut(&operation) {
        seen.left = true;
    }
}

fn is_dropped(outcome: &Outcome) -> bool {
    let Outcome::Refused(Refusal::LockHeld { reason, .. }) = outcome else {
        return false;
    };
    *reason == HeldReason::Detached
}

fn go_away(replay: &mut Replay, operation: OpId) {
    let now_ms = replay.model.now_ms();
    if let Some(seen) = replay.operations.get_mut(&operation) {
        seen.away.push((now_ms, None));
    }
}

fn come_back(replay: &mut Replay, operation: OpId) {
    let now_ms = replay.model.now_ms();
    if let Some(seen) = replay.operations.get_mut(&operation) {
        seen.is_here(now_ms);
    }
}

fn give_up(replay: &mut Replay, operation: OpId) {
    let now_ms = replay.model.now_ms();
    if let Some(seen) = replay.operations.get_mut(&operation) {
        seen.given_up_ms.get_or_insert(now_ms);
        seen.is_here(now_ms);
    }
}

/// Where each acquisition entered the log first: for checks of the order from outside.
#[derive(Debug, Clone, Default)]
pub struct Entries(HashMap<(String, String), u64>);

impl Entries {
    /// Of a committed log.
    pub fn of(committed: &Committed) -> Self {
        let mut first = HashMap::new();
        for entry in committed.iter() {
            if let Some(Command {
                action: Action::Acquire(acquire),
                ..
            }) = entry.command
            {
                let uuid = (
                    acquire.key.as_str().into(),
                    (&*acquire.holder.text()).into(),
                );
                first.entry(uuid).or_insert(entry.at.log_index);
            }
        }
        Self(first)
    }

    /// The first acquire of a record's uuid on its key.
    pub fn entry_index(&self, record: &Record) -> Option<u64> {
        let uuid = (record.key.clone(), record.uuid.clone());
        self.0.get(&uuid).copied()
    }
}
