//! What a frozen view costs, counted and not timed.

#![allow(clippy::unwrap_used)]

use crate::command::{Acquire, Action, Command, KeyHash, KeyId, OpId, Operation};
use crate::names::{Holder, IdentityId, Key, Resource};
use crate::outcome::Outcome;
use crate::record::RecordKey;
use crate::shards::SHARDS;
use crate::table::{EntryContext, Frozen, LockTable};

const LEASES: u64 = 200_000;

fn identity() -> IdentityId {
    IdentityId::new("acme").unwrap()
}

fn take(table: &mut LockTable, number: u64, holder: &str) -> Outcome {
    let sequence = number + 1;
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
        key: Key::new(&format!("key/{}", number % LEASES)).unwrap(),
        holder: Holder::new(holder).unwrap(),
        lease_ms: 60_000,
        retry_attempts: 10,
        window_ms: 5_000,
        fifo: false,
        idempotency: None,
    };
    let at = EntryContext {
        log_index: sequence,
        term: 1,
        stamp: None,
    };
    let command = Command {
        operation: Some(operation),
        action: Action::Acquire(acquire),
    };
    table.apply(at, command, &mut Vec::new()).outcome
}

fn full_table(leases: u64) -> LockTable {
    let mut table = LockTable::new();
    let add = Command {
        operation: None,
        action: Action::AddApiKey {
            hash: KeyHash([1; 32]),
            identity: identity(),
        },
    };
    let at = EntryContext {
        log_index: 0,
        term: 1,
        stamp: None,
    };
    table.apply(at, add, &mut Vec::new());
    for number in 0..leases {
        take(&mut table, number, "a");
    }
    table
}

#[test]
fn a_view_is_whole_and_shares_what_does_not_change() {
    fn goes_to_another_thread<T: Send + Sync + 'static>(_: &T) {}
    let mut table = full_table(LEASES);
    table.take_changes();
    assert_eq!(table.live_leases() as u64, LEASES);

    let frozen = table.freeze();
    goes_to_another_thread(&frozen);
    assert_eq!(apart(&table, &frozen), 0, "freezing copied something");

    // Each entry copies the one shard it writes to, once.
    for number in 0..50 {
        assert_eq!(take(&mut table, LEASES + number, "b"), Outcome::Queued);
        let copied = apart(&table, &frozen) as u64;
        assert!(copied <= number + 1, "{copied} parts for {number} entries");
    }
    // Meta, one session, the licence that is charged, and the locks.
    assert_eq!(table.take_changes().len(), 53);

    // No shard is so big that copying it would hold up an entry: at 1,000,000 leases each has five
    // times as many, about sixty. Random keys fill shards unevenly, but not by much.
    let largest = table.state.locks.part_len_max() as u64;
    let average = LEASES / SHARDS as u64;
    assert!(largest < 4 * average, "{largest} in one shard of {average}");

    // The view has not moved.
    let resource = Resource {
        identity: identity(),
        key: Key::new("key/7").unwrap(),
    };
    assert_eq!(table.lock(&resource).unwrap().waiting, 1);
    assert_eq!(frozen.count() as u64, LEASES + 4);
    assert!(frozen.record(&RecordKey::Lock(resource.clone())).is_some());
    let restored = LockTable::restore(frozen.records()).unwrap();
    assert_eq!(restored.lock(&resource).unwrap().waiting, 0);
    assert_eq!(restored.freeze(), frozen);
}

#[test]
fn what_a_view_has_given_is_not_copied_any_more() {
    let leases = 50_000;
    let mut table = full_table(leases);
    let mut records = table.freeze().into_records();
    let half = usize::try_from(leases / 2).unwrap();
    let given: Vec<_> = records.by_ref().take(half).collect();
    let place = |table: &LockTable, resource: &Resource| {
        std::ptr::from_ref(table.state.locks.get(resource).unwrap()).addr()
    };
    // The first locks were given: whoever waits for them now is written where the lock is.
    let locks = given.iter().filter_map(|(key, _)| match key {
        RecordKey::Lock(resource) => Some(resource.clone()),
        _ => None,
    });
    for resource in locks.take(100) {
        let before = place(&table, &resource);
        table.state.locks.get_mut(&resource).unwrap();
        assert_eq!(place(&table, &resource), before, "{resource:?} was copied");
    }
    // The last were not.
    let (last, _) = records.last().unwrap();
    drop(given);
    let RecordKey::Lock(resource) = last else {
        panic!("{last:?} is no lock");
    };

    let view = table.freeze();
    let before = place(&table, &resource);
    table.state.locks.get_mut(&resource).unwrap();
    assert_ne!(place(&table, &resource), before);
    drop(view);
}

fn apart(table: &LockTable, frozen: &Frozen) -> usize {
    table.state.locks.parts_apart(&frozen.state().locks)
}

#[test]
fn a_listing_is_in_order_and_complete() {
    let leases = 3_000;
    let table = full_table(leases);
    let mut keys = Vec::new();
    let mut after = None;
    loop {
        let page = table
            .freeze()
            .locks(&identity(), "key/12", after.as_ref(), 50);
        keys.extend(page.locks.into_iter().map(|lock| lock.key));
        let Some(next) = page.next_after else {
            break;
        };
        after = Some(next);
    }
    let mut expected: Vec<_> = (0..leases)
        .map(|number| format!("key/{number}"))
        .filter(|key| key.starts_with("key/12"))
        .map(|key| Key::new(&key).unwrap())
        .collect();
    expected.sort();
    assert_eq!(keys, expected);
}
