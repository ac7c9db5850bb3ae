//! The hot pure path: what one entry costs the state machine. `cargo bench --bench lock_table`
#![allow(missing_docs, reason = "criterion's macros")]
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use evermind_lock::command::{
    Acquire, Action, Command, KeyHash, KeyId, OpId, Operation, Release, Stamp,
};
use evermind_lock::names::{Holder, IdentityId, Key};
use evermind_lock::table::{EntryContext, LockTable};

/// A log that is applied as it is written.
struct Log {
    table: LockTable,
    index: u64,
    sequence: u64,
}

impl Log {
    fn new() -> Self {
        let mut log = Self {
            table: LockTable::new(),
            index: 0,
            sequence: 0,
        };
        log.enter(Action::AddApiKey {
            hash: KeyHash([1; 32]),
            identity: IdentityId::new("default").unwrap(),
        });
        log
    }

    fn enter(&mut self, action: Action) {
        self.index += 1;
        self.sequence += 1;
        let operation = Operation {
            id: OpId {
                node: 1,
                boot: 1,
                sequence: self.sequence,
            },
            answered_below: self.sequence,
        };
        let at = EntryContext {
            log_index: self.index,
            term: 1,
            stamp: Some(Stamp {
                cluster_ms: self.index,
                term: 1,
                wall_ms: 0,
            }),
        };
        let command = Command {
            operation: Some(operation),
            action,
        };
        self.table.apply(at, command, &mut Vec::new());
    }

    fn acquire(&mut self, key: &Key, holder: &Holder, lease_ms: u64) {
        self.enter(Action::Acquire(Acquire {
            caller: KeyId(1),
            key: key.clone(),
            holder: holder.clone(),
            lease_ms,
            retry_attempts: 10,
            window_ms: 5_000,
            fifo: false,
            idempotency: None,
        }));
    }

    fn release(&mut self, key: &Key, holder: &Holder) {
        self.enter(Action::Release(Release {
            caller: KeyId(1),
            key: key.clone(),
            holder: holder.clone(),
            idempotency: None,
        }));
    }
}

fn cycle(criterion: &mut Criterion) {
    let key = Key::new("a-key-of-ordinary-length").unwrap();
    let holder = Holder::new("0192d3a0-0000-7000-8000-000000000000").unwrap();
    for others in [0, 100_000] {
        let mut log = Log::new();
        for other in 0..others {
            let key = Key::new(&format!("held-{other}")).unwrap();
            log.acquire(&key, &holder, 86_400_000);
        }
        criterion.bench_function(
            &format!("acquire and release beside {others} leases"),
            |b| {
                b.iter(|| {
                    log.acquire(&key, &holder, 30_000);
                    log.release(&key, &holder);
                });
            },
        );
    }
}

fn hand_off(criterion: &mut Criterion) {
    let key = Key::new("contended").unwrap();
    let holder = |n: u32| Holder::new(&format!("waiter-{n}")).unwrap();
    criterion.bench_function("a line of 32 served to its end", |b| {
        b.iter_batched(
            || {
                let mut log = Log::new();
                for n in 0..33 {
                    log.acquire(&key, &holder(n), 30_000);
                }
                log
            },
            |mut log| {
                for n in 0..33 {
                    log.release(&key, &holder(n));
                }
                log
            },
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, cycle, hand_off);
criterion_main!(benches);
