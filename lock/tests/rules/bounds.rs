//! Bounds that take too many entries for a script.

use evermind_lock::command::{
    Acquire, Action, Attachment, Command, CreateLicence, Idempotency, KeyHash, KeyId, Member, OpId,
    Operation,
};
use evermind_lock::licence::Period;
use evermind_lock::limits;
use evermind_lock::names::{Holder, IdempotencyKey, IdentityId, Key, LicenceName, Resource};
use evermind_lock::outcome::{Event, Limit, Outcome, Refusal};
use evermind_lock::table::{EntryContext, LockTable};

struct Log {
    table: LockTable,
    index: u64,
}

fn identity() -> IdentityId {
    IdentityId::new("acme").unwrap()
}

impl Log {
    fn new() -> Self {
        let mut log = Self {
            table: LockTable::new(),
            index: 0,
        };
        log.alone(Action::AddApiKey {
            hash: KeyHash([0; 32]),
            identity: identity(),
        });
        log
    }

    fn enter(&mut self, operation: Option<Operation>, action: Action) -> (Outcome, Vec<Event>) {
        self.index += 1;
        let at = EntryContext {
            log_index: self.index,
            term: 1,
            stamp: None,
        };
        let mut events = Vec::new();
        let command = Command { operation, action };
        (self.table.apply(at, command, &mut events).outcome, events)
    }

    fn alone(&mut self, action: Action) -> Outcome {
        self.enter(None, action).0
    }

    /// As operation of node 1 with the entry's index for its sequence, all earlier ones answered.
    fn acquire(&mut self, key: &str, holder: &str, named: Option<&str>) -> Outcome {
        let sequence = self.index + 1;
        let operation = Operation {
            id: OpId {
                node: 1,
                boot: 1,
                sequence,
            },
            answered_below: sequence,
        };
        let acquire = Acquire {
            caller: KeyId(1),
            key: Key::new(key).unwrap(),
            holder: Holder::new(holder).unwrap(),
            lease_ms: 1000,
            retry_attempts: 1,
            window_ms: 1000,
            fifo: false,
            idempotency: named.map(|key| Idempotency {
                key: IdempotencyKey::new(key).unwrap(),
                fingerprint: [0; 16],
            }),
        };
        self.enter(Some(operation), Action::Acquire(acquire)).0
    }
}

fn limit(limit: Limit) -> Outcome {
    Outcome::Refused(Refusal::LimitReached(limit))
}

#[test]
fn one_resource_has_at_most_so_many_waiters() {
    let mut log = Log::new();
    log.acquire("k", "holder", None);
    for waiter in 0..limits::WAITERS_PER_RESOURCE_MAX {
        let outcome = log.acquire("k", &format!("w{waiter}"), None);
        assert_eq!(outcome, Outcome::Queued);
    }
    let refused = limit(Limit::WaitersPerResource);
    assert_eq!(log.acquire("k", "last", None), refused);
    // Who waits already is not one more.
    assert_eq!(log.acquire("k", "w7", None), Outcome::Queued);
    assert_eq!(log.table.waiting(), limits::WAITERS_PER_RESOURCE_MAX);
    log.table.check_invariants();
}

#[test]
fn one_identity_has_at_most_so_many_waiters() {
    let mut log = Log::new();
    let per_resource = limits::WAITERS_PER_RESOURCE_MAX;
    for waiter in 0..limits::WAITERS_PER_IDENTITY_MAX {
        let key = format!("k{}", waiter / per_resource);
        if waiter % per_resource == 0 {
            log.acquire(&key, "holder", None);
        }
        assert_eq!(
            log.acquire(&key, &format!("w{waiter}"), None),
            Outcome::Queued
        );
    }
    let refused = limit(Limit::WaitersPerIdentity);
    let last = format!("k{}", limits::WAITERS_PER_IDENTITY_MAX / per_resource);
    assert_eq!(log.acquire(&last, "last", None), refused);
    log.table.check_invariants();
}

#[test]
fn one_wait_has_at_most_so_many_requests_and_names() {
    let mut log = Log::new();
    log.acquire("k", "holder", None);
    for _ in 0..limits::ATTACHMENTS_PER_WAITER_MAX {
        assert_eq!(log.acquire("k", "w", None), Outcome::Queued);
    }
    let refused = limit(Limit::AttachmentsPerWaiter);
    assert_eq!(log.acquire("k", "w", None), refused);

    for name in 0..limits::IDEMPOTENCY_KEYS_PER_WAITER_MAX {
        let outcome = log.acquire("k", "v", Some(&format!("n{name}")));
        assert_eq!(outcome, Outcome::Queued);
    }
    let refused = limit(Limit::IdempotencyKeys);
    assert_eq!(log.acquire("k", "v", Some("last")), refused);
    // A refusal that tried nothing leaves no record, and a known name is not one more.
    assert_eq!(log.acquire("k", "v", Some("n0")), Outcome::Queued);
    assert_eq!(
        log.table.idempotency_keys(),
        limits::IDEMPOTENCY_KEYS_PER_WAITER_MAX
    );
    log.table.check_invariants();
}

#[test]
fn the_cluster_has_at_most_so_many_api_keys_and_nodes() {
    let mut log = Log::new();
    let licences = limits::API_KEYS_MAX.div_ceil(limits::API_KEYS_PER_LICENCE_MAX);
    let licence_key = |number: usize| KeyHash([u8::try_from(number).unwrap(); 32]);
    for licence in 0..licences {
        let create = Action::CreateLicence(CreateLicence {
            name: LicenceName::new("l").unwrap(),
            identity: identity(),
            key: licence_key(licence),
            limit: None,
            period: Period::Month,
            expires_ms: None,
        });
        assert!(matches!(log.alone(create), Outcome::LicenceCreated(_)));
    }
    let create = |licence: usize, number: usize| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&(number as u64 + 1).to_le_bytes());
        Action::CreateApiKey {
            licence: licence_key(licence),
            hash: KeyHash(hash),
        }
    };
    // One is there from the start.
    for number in 1..limits::API_KEYS_MAX {
        let create = create(number / limits::API_KEYS_PER_LICENCE_MAX, number);
        assert!(matches!(log.alone(create), Outcome::ApiKeyCreated(_)));
    }
    let beyond = limits::API_KEYS_MAX;
    assert_eq!(log.alone(create(0, beyond)), limit(Limit::ApiKeys));
    assert_eq!(log.table.api_keys(), limits::API_KEYS_MAX);
    let delete = Action::DeleteApiKey {
        licence: licence_key(licences - 1),
        hash: match create(0, beyond - 1) {
            Action::CreateApiKey { hash, .. } => hash,
            _ => unreachable!(),
        },
    };
    assert_eq!(log.alone(delete), Outcome::Done);
    assert_eq!(
        log.alone(create(1, beyond)),
        limit(Limit::ApiKeysPerLicence)
    );
    log.table.check_invariants();

    let member = |node| {
        Action::RecordMember(Member {
            node,
            disk: 1,
            http: "http://a:1".into(),
            peer: "a:2".into(),
        })
    };
    for node in 1..=limits::MEMBERS_MAX as u64 {
        assert_eq!(log.alone(member(node)), Outcome::Done);
    }
    assert_eq!(log.alone(member(9999)), limit(Limit::Members));
    let operation = |node| {
        Some(Operation {
            id: OpId {
                node,
                boot: 1,
                sequence: 1,
            },
            answered_below: 1,
        })
    };
    for node in 1..=limits::MEMBERS_MAX as u64 {
        assert_eq!(log.enter(operation(node), Action::Expire).0, Outcome::Done);
    }
    let (refused, _) = log.enter(operation(9999), Action::Expire);
    assert_eq!(refused, limit(Limit::Members));
}

fn as_operation(boot: u64, sequence: u64, answered_below: u64) -> Operation {
    Operation {
        id: OpId {
            node: 1,
            boot,
            sequence,
        },
        answered_below,
    }
}

#[test]
fn no_operation_uses_up_the_starts_or_the_sequences_of_its_node() {
    let mut log = Log::new();
    let mut told = |boot, sequence, below| {
        let operation = as_operation(boot, sequence, below);
        log.enter(Some(operation), Action::Expire).0
    };
    assert_eq!(told(1, 1, 1), Outcome::Done);
    let step = limits::SESSION_STEP_MAX;
    for (boot, sequence, below) in [
        (u64::MAX, 1, 1),
        (2 + step, 1, 1),
        (1, u64::MAX, u64::MAX),
        (1, 2 + step, 2 + step),
        (1, 5, 6),
    ] {
        let stale = told(boot, sequence, below);
        assert_eq!(stale, Outcome::Stale, "{boot} {sequence} {below}");
    }
    // None of them took effect, so what is the node's own still does.
    assert_eq!(told(1, 2, 2), Outcome::Done);
    assert_eq!(told(2, 1, 1), Outcome::Done);
    // And nobody begins with such a start.
    let other = Operation {
        id: OpId {
            node: 2,
            boot: 1 + step,
            sequence: 1,
        },
        answered_below: 1,
    };
    assert_eq!(log.enter(Some(other), Action::Expire).0, Outcome::Stale);
}

#[test]
fn a_long_queue_is_passed_over_where_it_is_detached() {
    let mut log = Log::new();
    log.acquire("k", "holder", None);
    for waiter in 0..2000 {
        log.acquire("k", &format!("w{waiter}"), None);
    }
    // Detaching them all is one number; the waits learn of it in pieces.
    let (_, events) = log.enter(None, Action::DetachNode { node: 1, boot: 1 });
    let mut detached = vec![events.len()];
    while log.table.next_deadline_ms() == Some(log.table.now_ms()) {
        detached.push(log.enter(None, Action::Expire).1.len());
    }
    assert_eq!(detached.iter().sum::<usize>(), 2000);
    assert!(
        detached.iter().all(|events| *events <= 1_000),
        "{detached:?}"
    );
    log.acquire("k", "w1999", None);
    let abandon = Action::Abandon(Attachment {
        operation: OpId {
            node: 1,
            boot: 1,
            sequence: 2,
        },
        resource: Resource {
            identity: identity(),
            key: Key::new("k").unwrap(),
        },
        holder: Holder::new("holder").unwrap(),
    });
    let (_, events) = log.enter(None, abandon);
    // Both of its callers are told: the one that came back, and the one that may only be cut off.
    assert_eq!(events.len(), 2);
    for event in events {
        assert!(
            matches!(&event, Event::WaitEnded { outcome: Outcome::Granted(granted), .. }
                if *granted.holder.text() == *"w1999"),
            "{event:?}"
        );
    }
}
