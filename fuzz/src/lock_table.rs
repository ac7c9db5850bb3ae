//! Whatever commands a log can hold, those of a peer that keeps to no rule among them: every
//! invariant of the table must hold after each, and every replica must come to the same table.

use arbitrary::{Arbitrary, Unstructured};
use evermind_lock::command::{
    Acquire, Action, Attachment, Command, CreateLicence, Extend, Idempotency, KeyHash, KeyId,
    LicenceId, Member, OpId, Operation, Release, Resume, Stamp,
};
use evermind_lock::licence::Period;
use evermind_lock::names::{Holder, IdempotencyKey, IdentityId, Key, LicenceName, Resource};
use evermind_lock::outcome::{Decision, Event, Outcome};
use evermind_lock::table::{EntryContext, LockTable};

/// Entries of one input.
const ENTRIES_MAX: usize = 48;

/// Cluster time counts real ms from 0, so it is never near the end of its numbers; the table relies
/// on that, as a lease must end after it began.
const CLUSTER_MS_MAX: u64 = 1 << 62;

/// A number: mostly a small one, so that things meet.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Number {
    Small(u8),
    Middle(u16),
    Any(u64),
    NearMax(u8),
}

impl Number {
    /// Its value.
    fn value(self) -> u64 {
        match self {
            Number::Small(number) => u64::from(number % 8),
            Number::Middle(number) => u64::from(number),
            Number::Any(number) => number,
            Number::NearMax(number) => u64::MAX - u64::from(number),
        }
    }
}

/// One entry.
#[derive(Debug, Clone, Arbitrary)]
pub(crate) struct Step {
    /// Node, boot, sequence, answered below.
    operation: Option<(u8, u8, Number, Number)>,
    /// Cluster time goes on by this, wall-clock time by that.
    time: Option<(Number, Number)>,
    /// The stamp is of another term.
    is_stale: bool,
    what: What,
}

#[derive(Debug, Clone, Arbitrary)]
enum What {
    Acquire {
        caller: u8,
        on: u8,
        by: u8,
        lease_ms: Number,
        retry_attempts: u32,
        window_ms: Number,
        fifo: bool,
        named: Option<(u8, u8)>,
    },
    Extend {
        caller: u8,
        on: u8,
        by: u8,
        extend_by_ms: Number,
        named: Option<(u8, u8)>,
    },
    Release {
        caller: u8,
        on: u8,
        by: u8,
        named: Option<(u8, u8)>,
    },
    Abandon(u8, u8, Number, u8, u8),
    Reattach(u8, u8, Number, u8, u8),
    DetachNode(u8, Number),
    Expire,
    Found(u8),
    RecordMember(u8, u8),
    AddApiKey(u8, u8),
    CreateLicence {
        identity: u8,
        key: u8,
        limit: Option<Number>,
        monthly: bool,
        expires_ms: Option<Number>,
    },
    RevokeLicence(Number),
    CreateApiKey(u8, u8),
    DeleteApiKey(u8, u8),
    DeleteApiKeyById(Number, Number),
    /// The entry before it, again.
    Again,
    /// Resumes the last acquire: the time it has waited, and the attempts already charged.
    Resume(Number, u32),
}

fn key(number: u8) -> Key {
    Key::new(&format!("k{}", number % 4)).expect("a key")
}

fn holder(number: u8) -> Holder {
    Holder::new(&format!("h{}", number % 6)).expect("a holder")
}

fn identity(number: u8) -> IdentityId {
    IdentityId::new(&format!("t{}", number % 3)).expect("an identity")
}

fn hash(number: u8) -> KeyHash {
    KeyHash([number % 12; 32])
}

fn idempotency(named: Option<(u8, u8)>) -> Option<Idempotency> {
    named.map(|(key, print)| Idempotency {
        key: IdempotencyKey::new(&format!("i{}", key % 4)).expect("an idempotency key"),
        fingerprint: [print % 3; 16],
    })
}

fn attachment(node: u8, boot: u8, sequence: Number, on: u8, by: u8) -> Attachment {
    Attachment {
        operation: OpId {
            node: u64::from(node % 4),
            boot: u64::from(boot % 4),
            sequence: sequence.value(),
        },
        resource: Resource {
            identity: identity(on / 4),
            key: key(on),
        },
        holder: holder(by),
    }
}

fn action(what: &What) -> Action {
    match *what {
        What::Acquire {
            caller,
            on,
            by,
            lease_ms,
            retry_attempts,
            window_ms,
            fifo,
            named,
        } => Action::Acquire(Acquire {
            caller: KeyId(u64::from(caller % 8)),
            key: key(on),
            holder: holder(by),
            lease_ms: lease_ms.value(),
            retry_attempts,
            window_ms: window_ms.value(),
            fifo,
            idempotency: idempotency(named),
        }),
        What::Extend {
            caller,
            on,
            by,
            extend_by_ms,
            named,
        } => Action::Extend(Extend {
            caller: KeyId(u64::from(caller % 8)),
            key: key(on),
            holder: holder(by),
            extend_by_ms: extend_by_ms.value(),
            idempotency: idempotency(named),
        }),
        What::Release {
            caller,
            on,
            by,
            named,
        } => Action::Release(Release {
            caller: KeyId(u64::from(caller % 8)),
            key: key(on),
            holder: holder(by),
            idempotency: idempotency(named),
        }),
        What::Abandon(node, boot, sequence, on, by) => {
            Action::Abandon(attachment(node, boot, sequence, on, by))
        }
        What::Reattach(node, boot, sequence, on, by) => {
            Action::Reattach(attachment(node, boot, sequence, on, by))
        }
        What::DetachNode(node, boot) => Action::DetachNode {
            node: u64::from(node % 4),
            boot: boot.value(),
        },
        What::Expire | What::Again | What::Resume(..) => Action::Expire,
        What::Found(length) => Action::Found {
            global_prefix: "p".repeat(length.into()),
        },
        What::RecordMember(node, disk) => Action::RecordMember(Member {
            node: u64::from(node),
            disk: u128::from(disk),
            http: "http://a:1".into(),
            peer: "a:2".into(),
        }),
        What::AddApiKey(key, of) => Action::AddApiKey {
            hash: hash(key),
            identity: identity(of),
        },
        What::CreateLicence {
            identity: of,
            key,
            limit,
            monthly,
            expires_ms,
        } => Action::CreateLicence(CreateLicence {
            name: LicenceName::new("l").expect("a name"),
            identity: identity(of),
            key: hash(key),
            limit: limit.map(Number::value),
            period: if monthly { Period::Month } else { Period::None },
            expires_ms: expires_ms.map(Number::value),
        }),
        What::RevokeLicence(id) => Action::RevokeLicence(LicenceId(id.value())),
        What::CreateApiKey(licence, key) => Action::CreateApiKey {
            licence: hash(licence),
            hash: hash(key),
        },
        What::DeleteApiKey(licence, key) => Action::DeleteApiKey {
            licence: hash(licence),
            hash: hash(key),
        },
        What::DeleteApiKeyById(licence, key) => Action::DeleteApiKeyById {
            licence: LicenceId(licence.value()),
            key: KeyId(key.value()),
        },
    }
}

/// A table, and what its log is so far.
pub(crate) struct World {
    pub(crate) table: LockTable,
    log: Vec<(EntryContext, Command)>,
    cluster_ms: u64,
    wall_ms: u64,
    token: u64,
}

impl World {
    /// The last acquire of the log, if the step resumes it.
    fn resumed(&self, what: &What) -> Option<Action> {
        let What::Resume(waited_ms, attempts) = *what else {
            return None;
        };
        let mut entries = self.log.iter().rev();
        let acquire = entries.find_map(|(_, command)| match &command.action {
            Action::Acquire(acquire) => Some(acquire.clone()),
            _ => None,
        })?;
        Some(Action::Resume(Resume {
            acquire,
            waited_ms: waited_ms.value(),
            attempts,
        }))
    }

    /// An empty table.
    pub(crate) fn new() -> Self {
        Self {
            table: LockTable::new(),
            log: Vec::new(),
            cluster_ms: 0,
            wall_ms: 0,
            token: 0,
        }
    }

    /// A table with two API keys of two identities.
    pub(crate) fn with_keys() -> Self {
        let mut world = Self::new();
        for number in 1..=2 {
            world.step(&Step {
                operation: None,
                time: None,
                is_stale: false,
                what: What::AddApiKey(number, number),
            });
        }
        world
    }

    /// Applies one entry, and checks all that must hold after it.
    pub(crate) fn step(&mut self, step: &Step) {
        let is_again = matches!(step.what, What::Again);
        let command = match self.log.last() {
            Some((_, command)) if is_again => command.clone(),
            _ => Command {
                operation: step
                    .operation
                    .map(|(node, boot, sequence, below)| Operation {
                        id: OpId {
                            node: u64::from(node % 4),
                            boot: u64::from(boot % 4),
                            sequence: sequence.value(),
                        },
                        answered_below: below.value(),
                    }),
                action: self
                    .resumed(&step.what)
                    .unwrap_or_else(|| action(&step.what)),
            },
        };
        let stamp = step.time.map(|(cluster_ms, wall_ms)| {
            let cluster_ms = self.cluster_ms.saturating_add(cluster_ms.value());
            self.cluster_ms = cluster_ms.min(CLUSTER_MS_MAX);
            self.wall_ms = self.wall_ms.saturating_add(wall_ms.value());
            Stamp {
                cluster_ms: self.cluster_ms,
                term: if step.is_stale { 4 } else { 5 },
                wall_ms: self.wall_ms,
            }
        });
        let at = EntryContext {
            log_index: self.log.len() as u64 + 1,
            term: 5,
            stamp,
        };
        let before_ms = self.table.now_ms();
        let mut events = Vec::new();
        let decision = self.table.apply(at, command.clone(), &mut events);
        // With debug assertions, as every fuzzer is built, `apply` has done this already where it
        // costs little.
        if self.log.len().is_multiple_of(16) {
            self.table.check_invariants();
        }
        assert!(self.table.now_ms() >= before_ms, "cluster time went back");
        self.heard(at.log_index, &decision, &events);
        self.log.push((at, command));
    }

    /// Of the grants that an entry makes, each has a higher token than all before.
    fn heard(&mut self, log_index: u64, decision: &Decision, events: &[Event]) {
        for event in events {
            if let Event::WaitEnded {
                outcome: Outcome::Granted(granted),
                ..
            } = event
            {
                // Several requests may be told of one grant.
                assert!(granted.fencing_token >= self.token, "tokens go up");
                self.token = granted.fencing_token;
            }
        }
        // An acquire that is told of a grant is told of an old one too.
        if let Outcome::Granted(granted) = &decision.outcome
            && decision.log_index == log_index
        {
            self.token = self.token.max(granted.fencing_token);
        }
    }

    /// Another replica applies the same log, stopping once for a snapshot.
    fn check_replica(&self) {
        let mut replica = LockTable::new();
        let half = self.log.len() / 2;
        for (number, (at, command)) in self.log.iter().enumerate() {
            if number == half {
                let frozen = replica.freeze();
                replica = LockTable::restore(frozen.records()).expect("its own records");
            }
            replica.apply(*at, command.clone(), &mut Vec::new());
        }
        assert!(replica == self.table, "the same log gives the same table");
    }
}

/// One input.
pub fn run(input: &[u8]) {
    let Ok(steps) = Vec::<Step>::arbitrary_take_rest(Unstructured::new(input)) else {
        return;
    };
    let mut world = World::with_keys();
    for step in steps.iter().take(ENTRIES_MAX) {
        world.step(step);
    }
    world.table.check_invariants();
    // As dear as all the rest: for some.
    if input.len().is_multiple_of(4) {
        world.check_replica();
    }
}
