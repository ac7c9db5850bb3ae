//! An honest server of one thread: what is asked goes through the table into a log, and what is
//! told into a history. Tests then change one thing.
#![allow(dead_code, clippy::unwrap_used, clippy::missing_panics_doc)]

use std::collections::{BTreeMap, BTreeSet};

use evermind_checker::committed::{Committed, NodeLog};
use evermind_checker::history::{Ask, History, Moment, Record, Told, Way};
use evermind_checker::spec::LineView;
use evermind_checker::stored::TableState;
use evermind_checker::witness::{Ends, LiveLock, LiveView, check_witness};
use evermind_checker::{Check, ClockBound, Verdict};
use evermind_lock::command::{
    Acquire, Action, Attachment, Command, Extend, Idempotency, KeyHash, KeyId, OpId, Operation,
    Release, Resume, Stamp,
};
use evermind_lock::limits::DETACHED_MS;
use evermind_lock::names::{Holder, IdempotencyKey, IdentityId, Key, Resource};
use evermind_lock::outcome::{Event, Outcome, Refusal};
use evermind_lock::table::{EntryContext, LockTable};
use evermind_storage::entry::{EntryRecord, PayloadRecord};
use evermind_storage::types::Proposal;

pub(crate) const TERM: u64 = 2;
const MS: u64 = 1_000_000;

/// See the module.
pub(crate) struct Story {
    pub(crate) entries: Vec<EntryRecord>,
    pub(crate) history: History,
    table: LockTable,
    /// Real time and cluster time, which here are one.
    now_ms: u64,
    sequence: u64,
    waiting: BTreeMap<OpId, Record>,
}

/// An acquire that waits up to a second, in order.
pub(crate) fn acquire(lease_ms: u64) -> Ask {
    Ask::Acquire {
        lease_ms,
        retry_attempts: 4,
        retry_delay_ms: 250,
        fifo: true,
    }
}

pub(crate) const EXTEND: Ask = Ask::Extend { extend_by_ms: 500 };

impl Story {
    /// A founded cluster with one API key.
    pub(crate) fn new() -> Self {
        let mut story = Self {
            entries: Vec::new(),
            history: History::default(),
            table: LockTable::new(),
            now_ms: 100,
            sequence: 0,
            waiting: BTreeMap::new(),
        };
        story.entries.push(EntryRecord {
            term: 1,
            index: 0,
            payload: PayloadRecord::Blank,
        });
        story.enter(
            None,
            Action::AddApiKey {
                hash: KeyHash([1; 32]),
                identity: IdentityId::new("team").unwrap(),
            },
        );
        story
    }

    pub(crate) fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    pub(crate) fn wait_until(&mut self, ms: u64) {
        self.now_ms = ms;
    }

    /// The next index.
    pub(crate) fn next(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn enter(&mut self, operation: Option<OpId>, action: Action) -> Outcome {
        let index = self.next();
        let stamp = Stamp {
            cluster_ms: self.now_ms,
            term: TERM,
            wall_ms: 1_700_000_000_000 + self.now_ms,
        };
        let command = Command {
            operation: operation.map(|id| Operation {
                id,
                answered_below: 1,
            }),
            action,
        };
        self.entries.push(EntryRecord {
            term: TERM,
            index,
            payload: PayloadRecord::Normal(Proposal {
                stamp,
                command: command.clone().into(),
            }),
        });
        let at = EntryContext {
            log_index: index,
            term: TERM,
            stamp: Some(stamp),
        };
        let mut events = Vec::new();
        let decision = self.table.apply(at, command, &mut events);
        for event in events {
            if let Event::WaitEnded {
                operation, outcome, ..
            } = event
                && let Some(record) = self.waiting.remove(&operation)
            {
                self.answer(record, &outcome, index);
            }
        }
        if let Some(record) = operation.and_then(|id| self.waiting.remove(&id)) {
            match decision.outcome {
                Outcome::Queued => drop(self.waiting.insert(operation.unwrap(), record)),
                ref outcome => self.answer(record, outcome, decision.log_index),
            }
        }
        decision.outcome
    }

    fn answer(&mut self, mut record: Record, outcome: &Outcome, index: u64) {
        record.told = match outcome {
            Outcome::Granted(granted) => Told::Granted {
                token: granted.fencing_token,
                expires_in_ms: granted.expires_in_ms,
                waited_ms: granted.waited_ms,
                attempts: granted.attempts,
            },
            Outcome::Extended {
                fencing_token,
                expires_in_ms,
            } => Told::Extended {
                token: *fencing_token,
                expires_in_ms: *expires_in_ms,
            },
            Outcome::Released => Told::Released,
            Outcome::Refused(refusal) => {
                let (status, code, attempts) = match refusal {
                    Refusal::LockHeld { attempts, .. } => (423, "lock_held", *attempts),
                    Refusal::NotOwner => (409, "not_owner", 0),
                    Refusal::LockNotFound => (404, "lock_not_found", 0),
                    Refusal::GrantEnded { attempts } => (409, "grant_ended", *attempts),
                    Refusal::IdempotencyMismatch => (422, "idempotency_mismatch", 0),
                    other => panic!("no story has {other:?}"),
                };
                Told::Refused {
                    status,
                    code: code.into(),
                    attempts,
                }
            }
            other => panic!("nobody is told {other:?}"),
        };
        record.log_index = Some(index);
        record.returned = Moment(self.now_ms * MS + MS / 2);
        self.history.records.push(record);
    }

    /// One request, and what is told of it if it need not wait.
    pub(crate) fn ask(&mut self, key: &str, uuid: &str, ask: Ask) -> OpId {
        self.ask_named(key, uuid, ask, None)
    }

    pub(crate) fn ask_named(
        &mut self,
        key: &str,
        uuid: &str,
        ask: Ask,
        name: Option<&str>,
    ) -> OpId {
        self.sequence += 1;
        let operation = OpId {
            node: 1,
            boot: 1,
            sequence: self.sequence,
        };
        let idempotency = name.map(|name| Idempotency {
            key: IdempotencyKey::new(name).unwrap(),
            fingerprint: fingerprint(&(key, uuid, &ask)),
        });
        let action = action(key, uuid, &ask, idempotency);
        let record = Record {
            client: self.sequence,
            node: 1,
            key: key.into(),
            uuid: uuid.into(),
            idempotency: name.map(Into::into),
            ask,
            invoked: Moment(self.now_ms * MS),
            returned: Moment(self.now_ms * MS),
            told: Told::Unknown,
            log_index: None,
            way: Way::default(),
        };
        self.waiting.insert(operation, record);
        // On its way to the log time passes.
        self.now_ms += 1;
        self.enter(Some(operation), action);
        self.now_ms += 1;
        operation
    }

    /// A look at a lock, answered at once.
    pub(crate) fn look(&mut self, key: &str) {
        let told = match self.table.lock(&resource(key)) {
            Some(view) => Told::Held {
                token: view.fencing_token,
                expires_in_ms: view.expires_in_ms,
                waiting: view.waiting,
                fifo: view.fifo,
            },
            None => Told::Free,
        };
        self.sequence += 1;
        self.history.records.push(Record {
            client: self.sequence,
            node: 1,
            key: key.into(),
            uuid: "onlooker".into(),
            idempotency: None,
            ask: Ask::Look,
            invoked: Moment(self.now_ms * MS),
            returned: Moment(self.now_ms * MS + MS / 2),
            told,
            log_index: None,
            way: Way::default(),
        });
        self.now_ms += 1;
    }

    /// A node stands still until the places of its callers are dropped, and is then sent a snapshot, in
    /// which the end of this wait is. Gives what was asked.
    pub(crate) fn misses_its_end(&mut self, operation: OpId) -> Record {
        let record = self.waiting.remove(&operation).unwrap();
        let OpId { node, boot, .. } = operation;
        self.enter(None, Action::DetachNode { node, boot });
        self.wait(DETACHED_MS + 1);
        self.tick();
        record
    }

    /// An acquire that waited is gone on with in an operation of this node, which answers it.
    pub(crate) fn resume(&mut self, node: u64, record: Record) -> OpId {
        self.sequence += 1;
        let operation = OpId {
            node,
            boot: 1,
            sequence: self.sequence,
        };
        let Action::Acquire(acquire) = action(&record.key, &record.uuid, &record.ask, None) else {
            panic!("only an acquire waits");
        };
        let began_ms = record.invoked.0 / MS;
        let resume = Resume {
            acquire,
            waited_ms: self.now_ms - began_ms,
            attempts: 1,
        };
        self.waiting.insert(operation, record);
        self.enter(Some(operation), Action::Resume(resume));
        operation
    }

    pub(crate) fn tick(&mut self) {
        self.enter(None, Action::Expire);
    }

    pub(crate) fn hang_up(&mut self, operation: OpId, key: &str, uuid: &str) {
        let resource = resource(key);
        let holder = Holder::new(uuid).unwrap();
        let attachment = Attachment {
            operation,
            resource,
            holder,
        };
        if let Some(mut record) = self.waiting.remove(&operation) {
            record.returned = Moment(self.now_ms * MS);
            self.history.records.push(record);
        }
        // Whoever hangs up has read no grant.
        let mut records = self.history.records.iter_mut();
        let answered = records.find(|record| record.client == operation.sequence);
        if let Some(record) = answered
            && matches!(record.told, Told::Granted { .. })
        {
            (record.told, record.log_index) = (Told::Unknown, None);
        }
        self.enter(None, Action::Abandon(attachment));
    }

    /// Whoever still waits gives up, untold.
    pub(crate) fn end(&mut self) {
        for (_, mut record) in std::mem::take(&mut self.waiting) {
            record.returned = Moment(self.now_ms * MS);
            self.history.records.push(record);
        }
    }

    pub(crate) fn committed(&self) -> Committed {
        let log = NodeLog::of(1, self.entries.clone());
        Committed::merge(&[log], self.next() - 1).unwrap()
    }

    pub(crate) fn ends(&self) -> Ends {
        let state = TableState::of(&self.table, self.next() - 1);
        let used = state.used.clone();
        Ends {
            tables: (1..=3).map(|node| (node, state.clone())).collect(),
            used: (1..=3).map(|node| (node, used.clone())).collect(),
            live: (1..=3).map(|node| self.live(node)).collect(),
            health: None,
        }
    }

    /// What a running node shows of its table now.
    pub(crate) fn live(&self, node: u64) -> LiveView {
        let state = TableState::of(&self.table, self.next() - 1);
        let lock = |(resource, line): (&Resource, &LineView)| {
            let lock = LiveLock {
                token: line.token,
                expires_in_ms: line.expires_ms - state.now_ms,
                waiting: line.waiting,
                fifo: line.fifo,
            };
            (resource.key.as_str().to_owned(), lock)
        };
        LiveView {
            node,
            from: state.applied,
            until: state.applied,
            caller: KeyId(1),
            held: state.held.iter().map(lock).collect(),
            through: None,
            used: Some(state.used),
        }
    }

    pub(crate) fn check(&self) -> Verdict {
        let ends = self.ends();
        check_witness(&self.history, &self.committed(), ClockBound::EXACT, &ends)
    }

    pub(crate) fn record(&mut self, uuid: &str) -> &mut Record {
        let mut records = self.history.records.iter_mut();
        records.find(|record| record.uuid == uuid).unwrap()
    }

    pub(crate) fn command(&mut self, index: u64) -> &mut Proposal {
        let index = usize::try_from(index).unwrap();
        match &mut self.entries[index].payload {
            PayloadRecord::Normal(proposal) => proposal,
            other => panic!("{other:?} has no command"),
        }
    }

    /// These rules are broken, and no others.
    #[track_caller]
    pub(crate) fn breaks(&self, checks: &[Check]) {
        let verdict = self.check();
        let found: BTreeSet<_> = verdict.violations.iter().map(|v| v.check).collect();
        assert_eq!(found, checks.iter().copied().collect(), "{verdict}");
    }
}

pub(crate) fn resource(key: &str) -> Resource {
    Resource {
        identity: IdentityId::new("team").unwrap(),
        key: Key::new(key).unwrap(),
    }
}

fn action(key: &str, uuid: &str, ask: &Ask, idempotency: Option<Idempotency>) -> Action {
    let caller = KeyId(1);
    let key = Key::new(key).unwrap();
    let holder = Holder::new(uuid).unwrap();
    match *ask {
        Ask::Acquire {
            lease_ms,
            retry_attempts,
            retry_delay_ms,
            fifo,
        } => Action::Acquire(Acquire {
            caller,
            key,
            holder,
            lease_ms,
            retry_attempts,
            window_ms: u64::from(retry_attempts) * retry_delay_ms,
            fifo,
            idempotency,
        }),
        Ask::Extend { extend_by_ms } => Action::Extend(Extend {
            caller,
            key,
            holder,
            extend_by_ms,
            idempotency,
        }),
        Ask::Release => Action::Release(Release {
            caller,
            key,
            holder,
            idempotency,
        }),
        Ask::Look => panic!("a look enters no log"),
    }
}

/// Another request has another.
fn fingerprint(asked: &impl std::fmt::Debug) -> [u8; 16] {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in format!("{asked:?}").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut fingerprint = [0; 16];
    fingerprint[..8].copy_from_slice(&hash.to_le_bytes());
    fingerprint
}
