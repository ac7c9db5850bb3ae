//! Masses that end together: no entry does more than its piece, and no command sees what is over.

use evermind_lock::command::{
    Acquire, Action, Command, Extend, KeyHash, KeyId, LicenceId, OpId, Operation, Release, Stamp,
};
use evermind_lock::limits::{ANSWER_COST, PIECE_OF_COMMAND_MAX, PIECE_OF_EXPIRE_MAX};
use evermind_lock::names::{Holder, IdentityId, Key, Resource};
use evermind_lock::outcome::{Event, Outcome, Refusal};
use evermind_lock::table::{EntryContext, LockTable};

const MANY: usize = 5_000;
const END_MS: u64 = 10_000;

struct Log {
    table: LockTable,
    index: u64,
    now_ms: u64,
}

impl Log {
    /// Key 1 is of the operator.
    fn begins() -> Self {
        let mut log = Self {
            table: LockTable::new(),
            index: 0,
            now_ms: 0,
        };
        let identity = IdentityId::new("acme").unwrap();
        for key in 1..=2 {
            log.own(Action::AddApiKey {
                hash: KeyHash([key; 32]),
                identity: identity.clone(),
            });
        }
        log
    }

    fn enter(&mut self, operation: Option<Operation>, action: Action) -> (Outcome, Vec<Event>) {
        self.index += 1;
        let stamp = Stamp {
            cluster_ms: self.now_ms,
            term: 1,
            wall_ms: 0,
        };
        let at = EntryContext {
            log_index: self.index,
            term: 1,
            stamp: Some(stamp),
        };
        let mut events = Vec::new();
        let command = Command { operation, action };
        (self.table.apply(at, command, &mut events).outcome, events)
    }

    fn own(&mut self, action: Action) -> Vec<Event> {
        self.enter(None, action).1
    }

    fn operate(&mut self, action: Action) -> (Outcome, Vec<Event>) {
        let sequence = self.index + 1;
        let id = OpId {
            node: 1,
            boot: 1,
            sequence,
        };
        let operation = Operation {
            id,
            answered_below: sequence,
        };
        self.enter(Some(operation), action)
    }

    fn acquire(&mut self, key: &str, holder: &str, caller: u64, window_ms: u64) -> Outcome {
        let acquire = Acquire {
            caller: KeyId(caller),
            key: Key::new(key).unwrap(),
            holder: Holder::new(holder).unwrap(),
            lease_ms: END_MS,
            retry_attempts: 9,
            window_ms,
            fifo: false,
            idempotency: None,
        };
        self.operate(Action::Acquire(acquire)).0
    }

    fn is_behind(&self) -> bool {
        self.table.next_deadline_ms() == Some(self.table.now_ms())
    }
}

#[test]
fn leases_with_one_end_are_gone_at_once_and_end_in_pieces() {
    let mut log = Log::begins();
    for lease in 0..MANY {
        log.acquire(&format!("k{lease}"), "ann", 1, 0);
    }
    log.acquire("waited-for", "ann", 1, 0);
    log.acquire("waited-for", "ben", 1, 60_000);
    let left = |log: &Log| log.table.live_leases();

    // To the millisecond in the holders' favour.
    log.now_ms = END_MS;
    log.own(Action::Expire);
    assert_eq!(left(&log), MANY + 1);

    // Whoever waits comes first, whatever the entry is for.
    log.now_ms += 1;
    let (outcome, events) = log.operate(Action::Extend(Extend {
        caller: KeyId(1),
        key: Key::new("k4999").unwrap(),
        holder: Holder::new("ann").unwrap(),
        extend_by_ms: 1_000,
        idempotency: None,
    }));
    assert_eq!(outcome, Outcome::Refused(Refusal::LockNotFound));
    assert_eq!(events.len(), 1, "the waiter is granted in the first entry");
    let ended = MANY - left(&log);
    assert!(ended <= 2 * PIECE_OF_COMMAND_MAX as usize + 1, "{ended}");

    // Every look and every command takes the rest for gone.
    let identity = IdentityId::new("acme").unwrap();
    let free = Resource {
        identity: identity.clone(),
        key: Key::new("k4000").unwrap(),
    };
    assert_eq!(log.table.lock(&free), None);
    let page = log.table.freeze().locks(&identity, "", None, 10);
    assert_eq!(page.locks.len(), 1, "{page:?}");
    assert!(matches!(
        log.acquire("k4000", "cat", 1, 0),
        Outcome::Granted(granted) if granted.expires_in_ms == END_MS
    ));

    // An entry of the cluster's own ends a piece, and then the table is not behind any longer.
    let mut entries = 0;
    while log.is_behind() {
        let before = left(&log);
        log.own(Action::Expire);
        assert!(before - left(&log) <= PIECE_OF_EXPIRE_MAX as usize);
        entries += 1;
    }
    assert_eq!(entries, MANY.div_ceil(PIECE_OF_EXPIRE_MAX as usize));
    assert_eq!(left(&log), 2);
    log.table.check_invariants();
}

#[test]
fn the_waits_of_a_deleted_key_are_over_at_once_and_told_in_pieces() {
    let mut log = Log::begins();
    log.acquire("k", "ann", 1, 0);
    for waiter in 0..MANY {
        let outcome = log.acquire("k", &format!("w{waiter}"), 2, 60_000);
        assert_eq!(outcome, Outcome::Queued);
    }
    log.acquire("k", "ben", 1, 60_000);
    let told = |events: &[Event]| events.len();
    let mut in_all = told(&log.own(Action::DeleteApiKeyById {
        licence: LicenceId(1),
        key: KeyId(2),
    }));
    assert!(in_all <= PIECE_OF_COMMAND_MAX as usize);
    // None of them is granted the lock, which is free for the one that still waits.
    log.now_ms = END_MS + 1;
    let mut granted = Vec::new();
    while log.is_behind() || in_all == 0 {
        let events = log.own(Action::Expire);
        assert!(told(&events) <= PIECE_OF_EXPIRE_MAX as usize);
        in_all += told(&events);
        granted.extend(events.into_iter().filter_map(|event| match event {
            Event::WaitEnded {
                outcome: Outcome::Granted(granted),
                ..
            } => Some(granted.holder.text().to_string()),
            _ => None,
        }));
    }
    assert_eq!(granted, ["ben"]);
    assert_eq!(in_all, MANY + 1);
    assert_eq!(log.table.waiting(), 0);
    log.table.check_invariants();
}

#[test]
fn windows_with_one_end_are_over_at_once_and_told_in_pieces() {
    let mut log = Log::begins();
    log.acquire("k", "ann", 1, 0);
    for waiter in 0..MANY {
        let outcome = log.acquire("k", &format!("w{waiter}"), 1, END_MS - 1);
        assert_eq!(outcome, Outcome::Queued);
    }
    log.acquire("k", "ben", 1, 60_000);
    log.now_ms = END_MS;
    let (outcome, events) = log.operate(Action::Release(Release {
        caller: KeyId(1),
        key: Key::new("k").unwrap(),
        holder: Holder::new("ann").unwrap(),
        idempotency: None,
    }));
    assert_eq!(outcome, Outcome::Released);
    assert!(events.len() <= 2 * PIECE_OF_COMMAND_MAX as usize);
    let mut outcomes: Vec<_> = events.into_iter().map(outcome_of).collect();
    let mut entries = 0;
    while log.is_behind() {
        let events = log.own(Action::Expire);
        assert!(events.len() <= PIECE_OF_EXPIRE_MAX.div_ceil(1 + ANSWER_COST) as usize);
        outcomes.extend(events.into_iter().map(outcome_of));
        entries += 1;
    }
    assert!(entries <= MANY.div_ceil(80), "{entries}");
    // The one that still waits is granted the lock, and none of the others.
    let granted = |outcome: &Outcome| match outcome {
        Outcome::Granted(granted) => Some(granted.holder.text().to_string()),
        _ => None,
    };
    let granted: Vec<_> = outcomes.iter().filter_map(granted).collect();
    assert_eq!(granted, ["ben"]);
    assert_eq!(outcomes.len(), MANY + 1);
    log.table.check_invariants();
}

fn outcome_of(event: Event) -> Outcome {
    match event {
        Event::WaitEnded { outcome, .. } => outcome,
        Event::Detached { .. } => panic!("{event:?}"),
    }
}
