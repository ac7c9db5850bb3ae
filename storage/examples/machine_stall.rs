//! How long applies stall while a snapshot or a checkpoint of a big table is made, and how long
//! those take: `cargo run --release -p evermind-storage --example machine_stall -- 1000000`

use std::sync::Arc;
use std::time::{Duration, Instant};

use evermind_lock::command::{
    Acquire, Action, Command, Extend, KeyHash, KeyId, OpId, Operation, Stamp,
};
use evermind_lock::names::{Holder, IdentityId, Key, NameError};
use evermind_lock::table::Pieces;
use evermind_storage::disk::RealDisk;
use evermind_storage::machine::{
    Checkpointer, LogExtent, Machine, MachineOptions, Nobody, SledTables,
};
use evermind_storage::runner::Threads;
use evermind_storage::types::{Entry, LogId, Proposal};
use futures_util::stream;
use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, RaftSnapshotBuilder};
use tokio::sync::watch;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const BATCH: u64 = 64;

struct Log {
    next: u64,
}

impl Log {
    fn entry(&mut self, action: Action) -> Entry {
        let index = self.next;
        self.next += 1;
        let id = OpId {
            node: 1,
            boot: 1,
            sequence: index,
        };
        let answered_below = index.saturating_sub(1000);
        let proposal = Proposal {
            stamp: Stamp {
                cluster_ms: index / 100,
                term: 1,
                wall_ms: 0,
            },
            command: Arc::new(Command {
                operation: Some(Operation { id, answered_below }),
                action,
            }),
        };
        Entry {
            log_id: LogId::new_term_index(1, index),
            payload: EntryPayload::Normal(proposal),
        }
    }

    fn acquire(&mut self, lease: u64) -> std::result::Result<Entry, NameError> {
        Ok(self.entry(Action::Acquire(Acquire {
            caller: KeyId(1),
            key: Key::new(&format!("orders/{lease:08}"))?,
            holder: Holder::new(&format!("0192f0c1-7d5e-7000-8000-{lease:012}"))?,
            lease_ms: 80_000_000,
            retry_attempts: 0,
            window_ms: 0,
            fifo: false,
            idempotency: None,
        })))
    }

    fn extend(&mut self, lease: u64) -> std::result::Result<Entry, NameError> {
        Ok(self.entry(Action::Extend(Extend {
            caller: KeyId(1),
            key: Key::new(&format!("orders/{lease:08}"))?,
            holder: Holder::new(&format!("0192f0c1-7d5e-7000-8000-{lease:012}"))?,
            extend_by_ms: 1,
            idempotency: None,
        })))
    }
}

async fn apply(machine: &mut Machine, entries: Vec<Entry>) -> Result<Duration> {
    let entries = entries.into_iter().map(|entry| Ok((entry, None)));
    let started = Instant::now();
    machine.apply(stream::iter(entries)).await?;
    Ok(started.elapsed())
}

/// Extends leases all over the table, in batches, until `done`; prints how long each took.
async fn extend_until(
    what: &str,
    machine: &mut Machine,
    log: &mut Log,
    leases: u64,
    mut done: impl FnMut(usize) -> bool,
) -> Result<()> {
    let mut took = Vec::new();
    while !done(took.len()) {
        let mut batch = Vec::new();
        for _ in 0..BATCH {
            let lease = log.next.wrapping_mul(0x9e37_79b9_7f4a_7c15) % leases;
            batch.push(log.extend(lease)?);
        }
        took.push(apply(machine, batch).await?);
        // As in a node: the next batch comes with its own commit.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    took.sort_unstable();
    let at = |part: usize| took[(took.len() - 1) * part / 1000];
    println!(
        "applies of {BATCH} {what}: {} batches, p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}",
        took.len(),
        at(500),
        at(990),
        at(999),
        at(1000)
    );
    Ok(())
}

fn open(dir: &std::path::Path, last: LogId) -> Result<(Machine, Checkpointer)> {
    let (synced, watch) = watch::channel(Some(LogId::new_term_index(1, u64::MAX)));
    drop(synced);
    Ok(Machine::open(MachineOptions {
        disk: Arc::new(RealDisk),
        runner: Arc::new(Threads),
        tables: Arc::new(SledTables),
        table_dir: dir.join("table"),
        snapshot_dir: dir.join("snapshot"),
        log: LogExtent {
            last: Some(last),
            purged: None,
        },
        synced: watch,
        observer: Arc::new(Nobody),
        pieces: Pieces::default(),
    })?)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let leases: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(1_000_000), |n| n.parse())?;
    let dir = tempfile::tempdir()?;
    std::fs::create_dir(dir.path().join("snapshot"))?;
    let last = LogId::new_term_index(1, u64::MAX);
    let (mut machine, mut checkpointer) = open(dir.path(), last)?;
    let mut log = Log { next: 1 };
    let key = log.entry(Action::AddApiKey {
        hash: KeyHash([7; 32]),
        identity: IdentityId::new("tests")?,
    });
    apply(&mut machine, vec![key]).await?;
    let started = Instant::now();
    for from in (0..leases).step_by(1000) {
        let batch: std::result::Result<_, _> =
            (from..from + 1000).map(|l| log.acquire(l)).collect();
        apply(&mut machine, batch?).await?;
    }
    println!("{leases} leases granted in {:?}", started.elapsed());

    extend_until("alone", &mut machine, &mut log, leases, |n| n == 2000).await?;

    let started = Instant::now();
    let mut builder = machine.get_snapshot_builder().await;
    println!("freezing for a snapshot: {:?}", started.elapsed());
    let building = tokio::spawn(async move { builder.build_snapshot().await });
    let done = |_| building.is_finished();
    extend_until("beside a snapshot", &mut machine, &mut log, leases, done).await?;
    let built = building.await??.snapshot;
    println!(
        "snapshot: {} bytes, built in {:?} at most",
        built.len(),
        started.elapsed()
    );

    for what in ["a whole checkpoint", "a checkpoint of what changed"] {
        let started = Instant::now();
        let step = std::thread::spawn(move || {
            let step = checkpointer.step();
            (checkpointer, step, started.elapsed())
        });
        let what = format!("beside {what}");
        let done = |_| step.is_finished();
        extend_until(&what, &mut machine, &mut log, leases, done).await?;
        let (back, step, took) = step.join().map_err(|_| "the checkpointer panicked")?;
        checkpointer = back;
        println!("{:?} in {took:?}", step?);
    }
    drop((machine, checkpointer));

    let started = Instant::now();
    drop(open(dir.path(), last)?);
    println!(
        "start from the checkpoint (the snapshot is checked too): {:?}",
        started.elapsed()
    );
    std::fs::remove_dir_all(dir.path().join("table"))?;
    let started = Instant::now();
    drop(open(dir.path(), last)?);
    println!("start from the snapshot: {:?}", started.elapsed());
    Ok(())
}
