//! A wait whose place was dropped while its caller was still there, and goes on.

use evermind_lock::command::{
    Acquire, Action, Command, KeyHash, KeyId, OpId, Operation, Resume, Stamp,
};
use evermind_lock::names::{Holder, IdentityId, Key};
use evermind_lock::outcome::{Event, HeldReason, Outcome, Refusal};
use evermind_lock::table::{EntryContext, LockTable};

struct Log {
    table: LockTable,
    index: u64,
}

impl Log {
    fn new() -> Self {
        let mut log = Self {
            table: LockTable::new(),
            index: 0,
        };
        let add = Action::AddApiKey {
            hash: KeyHash([1; 32]),
            identity: IdentityId::new("i").unwrap(),
        };
        assert_eq!(log.enter(0, None, add).0, Outcome::Done);
        log
    }

    fn enter(&mut self, at_ms: u64, node: Option<u64>, action: Action) -> (Outcome, Vec<Event>) {
        self.index += 1;
        let stamp = Stamp {
            cluster_ms: at_ms,
            term: 1,
            wall_ms: 1_700_000_000_000,
        };
        let at = EntryContext {
            log_index: self.index,
            term: 1,
            stamp: Some(stamp),
        };
        let operation = node.map(|node| Operation {
            id: OpId {
                node,
                boot: 1,
                sequence: self.index,
            },
            answered_below: self.index,
        });
        let mut events = Vec::new();
        let command = Command { operation, action };
        (self.table.apply(at, command, &mut events).outcome, events)
    }

    fn used(&self) -> u64 {
        let licences = self.table.licences(None, 10, 0);
        licences.iter().map(|licence| licence.usage.used).sum()
    }
}

fn asked(holder: &str, retry_attempts: u32) -> Acquire {
    Acquire {
        caller: KeyId(1),
        key: Key::new("job").unwrap(),
        holder: Holder::new(holder).unwrap(),
        lease_ms: 100_000,
        retry_attempts,
        window_ms: 60_000,
        fifo: false,
        idempotency: None,
    }
}

/// The wait of node 2 as its node is taken for dead at 4 s: dropped 3 s later, and resumed at 9 s.
fn resumed(log: &mut Log, retry_attempts: u32) -> u32 {
    let holder = Action::Acquire(asked("holder", 0));
    assert!(matches!(
        log.enter(0, Some(1), holder).0,
        Outcome::Granted(_)
    ));
    let wait = asked("waiter", retry_attempts);
    let queued = log.enter(0, Some(2), Action::Acquire(wait.clone())).0;
    assert_eq!(queued, Outcome::Queued);
    log.enter(4_000, None, Action::DetachNode { node: 2, boot: 1 });
    let (_, events) = log.enter(7_100, None, Action::Expire);
    let [
        Event::WaitEnded {
            outcome:
                Outcome::Refused(Refusal::LockHeld {
                    reason: HeldReason::Detached,
                    attempts,
                    ..
                }),
            ..
        },
    ] = &*events
    else {
        panic!("{events:?}");
    };
    let resume = Resume {
        acquire: wait,
        waited_ms: 9_000,
        attempts: *attempts,
    };
    let queued = log.enter(9_000, Some(2), Action::Resume(resume)).0;
    assert_eq!(queued, Outcome::Queued);
    *attempts
}

#[test]
fn it_is_granted_and_charged_as_if_it_had_never_been_interrupted() {
    let mut log = Log::new();
    let attempts = resumed(&mut log, 60);
    // Its place ended at 7 s, however late it was dropped.
    assert_eq!(attempts, 8);
    let release = evermind_lock::command::Release {
        caller: KeyId(1),
        key: Key::new("job").unwrap(),
        holder: Holder::new("holder").unwrap(),
        idempotency: None,
    };
    let (_, events) = log.enter(20_000, Some(1), Action::Release(release));
    let [
        Event::WaitEnded {
            outcome: Outcome::Granted(granted),
            ..
        },
    ] = &*events
    else {
        panic!("{events:?}");
    };
    assert_eq!((granted.attempts, granted.waited_ms), (21, 20_000));
    // The holder's one, and these.
    assert_eq!(log.used(), 1 + 21);
    log.table.check_invariants();
}

#[test]
fn its_window_ends_when_it_would_have_and_no_attempt_is_charged_twice() {
    for retry_attempts in [0, 1, 2, 60] {
        let mut log = Log::new();
        resumed(&mut log, retry_attempts);
        let (_, events) = log.enter(59_999, None, Action::Expire);
        assert!(events.is_empty(), "{events:?}");
        let (_, events) = log.enter(60_001, None, Action::Expire);
        assert!(
            matches!(&*events, [Event::WaitEnded { outcome: Outcome::Refused(Refusal::LockHeld {
                reason: HeldReason::WindowPassed,
                attempts,
                ..
            }), .. }] if *attempts == 1 + retry_attempts),
            "{events:?}"
        );
        assert_eq!(log.used(), 1 + 1 + u64::from(retry_attempts));
        log.table.check_invariants();
    }
}

#[test]
fn what_has_no_operation_is_not_resumed() {
    let mut log = Log::new();
    let resume = Action::Resume(Resume {
        acquire: asked("x", 1),
        waited_ms: 0,
        attempts: 1,
    });
    assert_eq!(log.enter(0, None, resume).0, Outcome::Stale);
}
