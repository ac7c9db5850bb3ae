//! A table, and what happens to it, told twice: as it should be, and with one bug.

use std::sync::{Mutex, PoisonError};

use evermind_lock::command::{
    Acquire, Action, Attachment, Command, Extend, Idempotency, KeyHash, KeyId, LicenceId, NodeId,
    OpId, Operation, Release, Stamp,
};
use evermind_lock::mutant::{self, Mutant};
use evermind_lock::names::{Holder, IdempotencyKey, IdentityId, Key, Resource};
use evermind_lock::outcome::{Event, Granted, Outcome};
use evermind_lock::record::RecordKey;
use evermind_lock::table::{EntryContext, LockTable};

const TERM: u64 = 1;
const LEASE_MS: u64 = 10_000;

/// One bug is picked at a time in a process, and tests share theirs.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What `story` comes to without any bug, and with this one.
pub(crate) fn told_twice<T>(mutant: Mutant, story: impl Fn() -> T) -> (T, T) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    mutant::pick(None);
    let right = story();
    mutant::pick(Some(mutant));
    let wrong = story();
    mutant::pick(None);
    (right, wrong)
}

pub(crate) struct Story {
    table: LockTable,
    log_index: u64,
    now_ms: u64,
    /// Of node 1.
    sequence: u64,
    answered_below: u64,
    events: Vec<Event>,
}

impl Story {
    /// An empty table with one API key.
    pub(crate) fn begins() -> Self {
        let mut story = Self {
            table: LockTable::new(),
            log_index: 0,
            now_ms: 0,
            sequence: 0,
            answered_below: 1,
            events: Vec::new(),
        };
        let add = Action::AddApiKey {
            hash: KeyHash([1; 32]),
            identity: identity(),
        };
        story.own(add);
        story
    }

    /// From here on entries are stamped with this.
    pub(crate) fn at(&mut self, now_ms: u64) -> &mut Self {
        self.now_ms = now_ms;
        self
    }

    fn apply(&mut self, command: Command) -> Outcome {
        self.log_index += 1;
        let at = EntryContext {
            log_index: self.log_index,
            term: TERM,
            stamp: Some(Stamp {
                cluster_ms: self.now_ms,
                term: TERM,
                wall_ms: 1_000_000 + self.now_ms,
            }),
        };
        self.table.apply(at, command, &mut self.events).outcome
    }

    /// A command of the cluster's own.
    pub(crate) fn own(&mut self, action: Action) -> Outcome {
        self.apply(Command {
            operation: None,
            action,
        })
    }

    pub(crate) fn expire(&mut self) {
        self.own(Action::Expire);
    }

    /// An operation of a node's, under a given sequence: for duplicates.
    pub(crate) fn operation(&mut self, id: OpId, action: Action) -> Outcome {
        self.apply(Command {
            operation: Some(Operation {
                id,
                answered_below: self.answered_below,
            }),
            action,
        })
    }

    fn next(&mut self, action: Action) -> Outcome {
        self.sequence += 1;
        let id = op(1, self.sequence);
        self.operation(id, action)
    }

    /// Everything so far was answered.
    pub(crate) fn all_answered(&mut self) {
        self.answered_below = self.sequence + 1;
    }

    pub(crate) fn acquire(&mut self, holder: &str, window_ms: u64) -> Outcome {
        self.next(acquire(holder, window_ms, None))
    }

    pub(crate) fn acquire_named(&mut self, holder: &str, name: &str) -> Outcome {
        self.next(acquire(holder, 0, Some(name)))
    }

    pub(crate) fn extend(&mut self, holder: &str, name: Option<&str>) -> Outcome {
        self.next(Action::Extend(Extend {
            caller: KeyId(1),
            key: key(),
            holder: uuid(holder),
            extend_by_ms: LEASE_MS,
            idempotency: name.map(idempotency),
        }))
    }

    pub(crate) fn release(&mut self, holder: &str) -> Outcome {
        self.next(Action::Release(Release {
            caller: KeyId(1),
            key: key(),
            holder: uuid(holder),
            idempotency: None,
        }))
    }

    pub(crate) fn hang_up(&mut self, operation: OpId, holder: &str) {
        self.own(Action::Abandon(Attachment {
            operation,
            resource: resource(),
            holder: uuid(holder),
        }));
    }

    /// The node goes on from what it kept.
    pub(crate) fn restarts(&mut self) {
        let records: Vec<_> = self.table.freeze().records().collect();
        // As text in between: a line is made anew where it is decoded.
        let kept = serde_json::to_string(&records).expect("records can be written");
        let records: Vec<_> = serde_json::from_str(&kept).expect("and read");
        self.table = LockTable::restore(records).expect("what was kept makes a table");
    }

    /// The waits that ended with a grant, in order: who was told of which token. Each once.
    pub(crate) fn told(&mut self) -> Vec<(String, u64)> {
        let events = std::mem::take(&mut self.events);
        let granted = events.into_iter().filter_map(|event| match event {
            Event::WaitEnded {
                outcome: Outcome::Granted(granted),
                ..
            } => Some((granted.holder.to_string(), granted.fencing_token)),
            _ => None,
        });
        granted.collect()
    }

    /// Whether the next checkpoint would write the lock.
    pub(crate) fn is_marked(&mut self) -> bool {
        let changes = self.table.take_changes();
        changes.keys().any(|key| key == RecordKey::Lock(resource()))
    }

    pub(crate) fn is_held(&self) -> bool {
        self.table.live_leases() > 0
    }

    pub(crate) fn used(&self) -> u64 {
        let licence = self.table.licence(LicenceId(1), 0);
        licence.expect("the built-in one").usage.used
    }
}

pub(crate) fn acquire(holder: &str, window_ms: u64, name: Option<&str>) -> Action {
    Action::Acquire(Acquire {
        caller: KeyId(1),
        key: key(),
        holder: uuid(holder),
        lease_ms: LEASE_MS,
        retry_attempts: 0,
        window_ms,
        fifo: true,
        idempotency: name.map(idempotency),
    })
}

pub(crate) fn op(node: NodeId, sequence: u64) -> OpId {
    OpId {
        node,
        boot: 1,
        sequence,
    }
}

/// Token and what is left, where the lock was granted.
pub(crate) fn granted(outcome: &Outcome) -> Option<(u64, u64)> {
    match outcome {
        Outcome::Granted(Granted {
            fencing_token,
            expires_in_ms,
            ..
        }) => Some((*fencing_token, *expires_in_ms)),
        _ => None,
    }
}

/// What is left after an extend.
pub(crate) fn left_ms(outcome: &Outcome) -> Option<u64> {
    match outcome {
        Outcome::Extended { expires_in_ms, .. } => Some(*expires_in_ms),
        _ => None,
    }
}

fn identity() -> IdentityId {
    IdentityId::new("acme").expect("allowed")
}

fn key() -> Key {
    Key::new("boiler").expect("allowed")
}

fn resource() -> Resource {
    Resource {
        identity: identity(),
        key: key(),
    }
}

fn uuid(text: &str) -> Holder {
    Holder::new(text).expect("allowed")
}

fn idempotency(text: &str) -> Idempotency {
    Idempotency {
        key: IdempotencyKey::new(text).expect("allowed"),
        fingerprint: [7; 16],
    }
}
