//! What one entry costs the state machine, beside ten thousand leases.

use evermind_lock::command::{
    Acquire, Action, Attachment, Command, Extend, KeyHash, KeyId, OpId, Operation, Release, Stamp,
};
use evermind_lock::limits::{WAITERS_PER_RESOURCE_MAX, WINDOW_MS_MAX};
use evermind_lock::names::{Holder, IdentityId, Key, Resource};
use evermind_lock::table::{AttachmentState, EntryContext, LockTable};

use crate::BATCH;
use crate::meter::{Case, Meter, Round};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "table/acquire",
        prepare: acquire,
    },
    Case {
        name: "table/extend",
        prepare: extend,
    },
    Case {
        name: "table/release",
        prepare: release,
    },
    Case {
        name: "table/expire",
        prepare: expire,
    },
    Case {
        name: "table/hand_off",
        prepare: hand_off,
    },
    Case {
        name: "table/windows",
        prepare: windows,
    },
    Case {
        name: "table/reattach",
        prepare: reattach,
    },
];

const OTHERS: u64 = 10_000;
const DAY_MS: u64 = 86_400_000;
const LEASE_MS: u64 = 30_000;
const CALLER: KeyId = KeyId(1);

/// A command as a node proposes it, with the place that it has in the log.
pub(crate) struct Scribe {
    index: u64,
    now_ms: u64,
}

impl Scribe {
    pub(crate) fn new() -> Self {
        Self {
            index: 0,
            now_ms: 0,
        }
    }

    pub(crate) fn entry(&mut self, action: Action) -> (EntryContext, Command) {
        self.index += 1;
        let operation = Operation {
            id: OpId {
                node: 1,
                boot: 1,
                sequence: self.index,
            },
            answered_below: self.index,
        };
        let at = EntryContext {
            log_index: self.index,
            term: 1,
            stamp: Some(self.stamp()),
        };
        let command = Command {
            operation: Some(operation),
            action,
        };
        (at, command)
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp {
            cluster_ms: self.now_ms,
            term: 1,
            wall_ms: 1_800_000_000_000,
        }
    }
}

pub(crate) fn acquire_of(key: &Key, holder: &Holder, lease_ms: u64) -> Action {
    Action::Acquire(Acquire {
        caller: CALLER,
        key: key.clone(),
        holder: holder.clone(),
        lease_ms,
        retry_attempts: 10,
        window_ms: 5_000,
        fifo: false,
        idempotency: None,
    })
}

fn extend_of(key: &Key, holder: &Holder) -> Action {
    Action::Extend(Extend {
        caller: CALLER,
        key: key.clone(),
        holder: holder.clone(),
        extend_by_ms: 1,
        idempotency: None,
    })
}

fn release_of(key: &Key, holder: &Holder) -> Action {
    Action::Release(Release {
        caller: CALLER,
        key: key.clone(),
        holder: holder.clone(),
        idempotency: None,
    })
}

/// A table, and the locks that the rounds are about.
struct Bench {
    table: LockTable,
    scribe: Scribe,
    holder: Holder,
    keys: Vec<Key>,
}

impl Bench {
    fn new() -> Self {
        let key = |name: &str, n: u64| Key::new(&format!("{name}-of-ordinary-length-{n}")).unwrap();
        let mut bench = Self {
            table: LockTable::new(),
            scribe: Scribe::new(),
            holder: Holder::new("0192d3a0-0000-7000-8000-000000000000").unwrap(),
            keys: (0..BATCH).map(|n| key("key", n)).collect(),
        };
        bench.apply([Action::AddApiKey {
            hash: KeyHash([1; 32]),
            identity: IdentityId::new("default").unwrap(),
        }]);
        let holder = bench.holder.clone();
        bench.apply((0..OTHERS).map(|n| acquire_of(&key("other", n), &holder, DAY_MS)));
        bench
    }

    fn apply(&mut self, actions: impl IntoIterator<Item = Action>) {
        self.apply_measured(&mut Meter::Off, actions);
    }

    /// Applies a batch; only the applying is measured.
    fn apply_measured(&mut self, meter: &mut Meter, actions: impl IntoIterator<Item = Action>) {
        let scribe = &mut self.scribe;
        let entries: Vec<_> = actions.into_iter().map(|a| scribe.entry(a)).collect();
        let mut events = Vec::with_capacity(entries.len());
        let table = &mut self.table;
        let told = meter.measure(|| {
            let mut told = Vec::with_capacity(entries.len());
            for (at, command) in entries {
                told.push(table.apply(at, command, &mut events));
            }
            told
        });
        drop((told, events));
        // As the checkpoint does: or the list of what changed grows with every round.
        self.table.take_changes();
    }

    fn all(&self, action: impl Fn(&Key, &Holder) -> Action) -> Vec<Action> {
        let keys = self.keys.iter();
        keys.map(|key| action(key, &self.holder)).collect()
    }

    fn acquires(&self) -> Vec<Action> {
        self.all(|key, holder| acquire_of(key, holder, LEASE_MS))
    }
}

fn acquire() -> Round {
    let mut bench = Bench::new();
    Box::new(move |meter| {
        bench.apply_measured(meter, bench.acquires());
        bench.apply(bench.all(release_of));
    })
}

fn extend() -> Round {
    let mut bench = Bench::new();
    bench.apply(bench.acquires());
    Box::new(move |meter| bench.apply_measured(meter, bench.all(extend_of)))
}

fn release() -> Round {
    let mut bench = Bench::new();
    Box::new(move |meter| {
        bench.apply(bench.acquires());
        bench.apply_measured(meter, bench.all(release_of));
    })
}

/// One entry ends the whole batch.
fn expire() -> Round {
    let mut bench = Bench::new();
    Box::new(move |meter| {
        bench.apply(bench.all(|key, holder| acquire_of(key, holder, 1)));
        bench.scribe.now_ms += 1;
        bench.apply_measured(meter, [Action::Expire]);
    })
}

/// A long queue of one held lock: what ends or comes back in it costs no more than in a short one.
fn queue(bench: &mut Bench) -> Vec<Holder> {
    let key = bench.keys[0].clone();
    let holder = |n: u64| Holder::new(&format!("waiter-{n}")).unwrap();
    let queue: Vec<_> = (0..WAITERS_PER_RESOURCE_MAX as u64 / 2)
        .map(holder)
        .collect();
    let held = acquire_of(&key, &bench.holder, DAY_MS);
    bench.apply([held]);
    bench.apply(
        queue
            .iter()
            .map(|holder| wait_of(&key, holder, WINDOW_MS_MAX)),
    );
    queue
}

fn wait_of(key: &Key, holder: &Holder, window_ms: u64) -> Action {
    match acquire_of(key, holder, LEASE_MS) {
        Action::Acquire(acquire) => Action::Acquire(Acquire {
            window_ms,
            ..acquire
        }),
        other => other,
    }
}

/// The windows of a batch of waits end, one entry each.
fn windows() -> Round {
    let mut bench = Bench::new();
    queue(&mut bench);
    let key = bench.keys[0].clone();
    let short: Vec<_> = (0..BATCH)
        .map(|n| Holder::new(&format!("short-{n}")).unwrap())
        .collect();
    Box::new(move |meter| {
        bench.apply(short.iter().map(|holder| wait_of(&key, holder, 1)));
        bench.scribe.now_ms += 2;
        bench.apply_measured(meter, (0..BATCH).map(|_| Action::Expire));
    })
}

/// A batch of callers comes back, each from a queue of callers whose node was taken for dead.
fn reattach() -> Round {
    let mut bench = Bench::new();
    let queue = queue(&mut bench);
    let key = bench.keys[0].clone();
    // The last of the queue, each under the operation that it came with.
    let last = (0..BATCH).map(|n| bench.scribe.index - n);
    let back = queue.into_iter().rev().zip(last);
    let back: Vec<_> = back
        .map(|(holder, sequence)| Attachment {
            operation: OpId {
                node: 1,
                boot: 1,
                sequence,
            },
            resource: Resource {
                identity: IdentityId::new("default").unwrap(),
                key: key.clone(),
            },
            holder,
        })
        .collect();
    Box::new(move |meter| {
        bench.apply([Action::DetachNode { node: 1, boot: 1 }]);
        while bench.table.next_deadline_ms() == Some(bench.table.now_ms()) {
            bench.apply([Action::Expire]);
        }
        bench.apply_measured(meter, back.iter().cloned().map(Action::Reattach));
        let Attachment {
            operation,
            resource,
            holder,
        } = &back[0];
        let state = bench.table.attachment(*operation, resource, holder);
        assert_eq!(state, AttachmentState::Waiting);
    })
}

/// Each release grants to the next in line.
fn hand_off() -> Round {
    let mut bench = Bench::new();
    let key = bench.keys[0].clone();
    let holders: Vec<_> = (0..=BATCH)
        .map(|n| Holder::new(&format!("waiter-{n}")).unwrap())
        .collect();
    Box::new(move |meter| {
        bench.apply(holders.iter().map(|h| acquire_of(&key, h, LEASE_MS)));
        let (last, served) = holders.split_last().unwrap();
        bench.apply_measured(meter, served.iter().map(|h| release_of(&key, h)));
        bench.apply([release_of(&key, last)]);
    })
}
