//! A node's machine over a directory, without a node.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use evermind_lock::command::{
    Acquire, Action, Command, Extend, KeyHash, KeyId, OpId, Operation, Release, Stamp,
};
use evermind_lock::names::{Holder, IdentityId, Key};
use evermind_lock::outcome::Event;
use evermind_lock::table::{Frozen, LockTable, Pieces};
use evermind_storage::disk::sim::SimDisk;
use evermind_storage::disk::{Disk, RealDisk};
use evermind_storage::machine::{
    Applied, Checkpointer, LogExtent, Machine, MachineOptions, MemoryTables, Observer, OpenError,
    Progress, SledTables, SnapshotFile, TableEngine,
};
use evermind_storage::runner::{Runner, Threads};
use evermind_storage::types::{Entry, LogId, Proposal};
use futures_util::stream;
use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, Membership, RaftSnapshotBuilder};
use tokio::sync::watch;

/// splitmix64: a run is its seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }
}

/// A log that is always the same for the same seed.
pub(crate) struct Log {
    random: Random,
    next: u64,
    now_ms: u64,
    sequence: u64,
}

const TERM: u64 = 3;

impl Log {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            next: 1,
            now_ms: 0,
            sequence: 0,
        }
    }

    pub(crate) fn take(&mut self, entries: usize) -> Vec<Entry> {
        (0..entries).map(|_| self.entry()).collect()
    }

    fn entry(&mut self) -> Entry {
        let index = self.next;
        self.next += 1;
        let payload = match index {
            1 => EntryPayload::Membership(Membership::new_with_defaults(
                vec![BTreeSet::from([1, 2, 3])],
                [4],
            )),
            2 => EntryPayload::Normal(self.proposal(Action::AddApiKey {
                hash: KeyHash([7; 32]),
                identity: IdentityId::new("tests").unwrap(),
            })),
            _ if self.random.below(50) == 0 => EntryPayload::Blank,
            _ => {
                let action = self.action();
                EntryPayload::Normal(self.proposal(action))
            }
        };
        Entry {
            log_id: LogId::new_term_index(TERM, index),
            payload,
        }
    }

    /// A lock on a key of its own, for ever so long.
    pub(crate) fn lease(&mut self) -> Entry {
        let action = Action::Acquire(Acquire {
            caller: KeyId(1),
            key: Key::new(&format!("lease-{}", self.next)).unwrap(),
            holder: Holder::new("h").unwrap(),
            lease_ms: 86_400_000,
            retry_attempts: 0,
            window_ms: 0,
            fifo: false,
            idempotency: None,
        });
        let payload = EntryPayload::Normal(self.proposal(action));
        let index = self.next;
        self.next += 1;
        Entry {
            log_id: LogId::new_term_index(TERM, index),
            payload,
        }
    }

    fn proposal(&mut self, action: Action) -> Proposal {
        self.sequence += 1;
        Proposal {
            stamp: Stamp {
                cluster_ms: self.now_ms,
                term: TERM,
                wall_ms: 1_700_000_000_000 + self.now_ms,
            },
            command: Arc::new(Command {
                operation: Some(Operation {
                    id: OpId {
                        node: 1,
                        boot: 1,
                        sequence: self.sequence,
                    },
                    answered_below: self.sequence.saturating_sub(100),
                }),
                action,
            }),
        }
    }

    fn action(&mut self) -> Action {
        self.now_ms += self.random.below(40);
        let caller = KeyId(1);
        let key = Key::new(&format!("key-{}", self.random.below(40))).unwrap();
        let holder = Holder::new(&format!("holder-{}", self.random.below(4))).unwrap();
        let idempotency = None;
        match self.random.below(10) {
            0..=5 => Action::Acquire(Acquire {
                caller,
                key,
                holder,
                lease_ms: 1 + self.random.below(5_000),
                retry_attempts: 3,
                window_ms: self.random.below(2) * self.random.below(3_000),
                fifo: true,
                idempotency,
            }),
            6 => Action::Extend(Extend {
                caller,
                key,
                holder,
                extend_by_ms: 1 + self.random.below(5_000),
                idempotency,
            }),
            7 | 8 => Action::Release(Release {
                caller,
                key,
                holder,
                idempotency,
            }),
            _ => Action::Expire,
        }
    }
}

/// Everything it was told.
#[derive(Default)]
pub(crate) struct Told(pub(crate) Mutex<Vec<ToldOf>>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ToldOf {
    Applied(Vec<Applied>, Vec<(u64, Event)>, Progress),
    Replaced(Progress),
}

impl Observer for Told {
    fn applied(&self, batch: &[Applied], events: &[(u64, Event)], progress: Progress) {
        let told = ToldOf::Applied(batch.to_vec(), events.to_vec(), progress);
        self.0.lock().unwrap().push(told);
    }

    fn replaced(&self, progress: Progress) {
        self.0.lock().unwrap().push(ToldOf::Replaced(progress));
    }
}

/// A directory that outlives the machines over it.
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) runner: Arc<dyn Runner>,
    pub(crate) tables: Arc<dyn TableEngine>,
    _dir: Option<tempfile::TempDir>,
}

impl Place {
    /// On the file system of this machine, with sled.
    pub(crate) fn real() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Self {
            path: dir.path().into(),
            disk: Arc::new(RealDisk),
            runner: Arc::new(Threads),
            tables: Arc::new(SledTables),
            _dir: Some(dir),
        };
        place.disk.create_dir_all(&place.snapshot()).unwrap();
        place
    }

    /// On the file system of this machine, with tables in memory: for what is not about sled.
    pub(crate) fn without_sled() -> Self {
        Self {
            tables: Arc::new(MemoryTables::default()),
            ..Self::real()
        }
    }

    /// On a disk of the caller's, with tables in memory.
    pub(crate) fn on(disk: SimDisk) -> Self {
        Self {
            path: "/node".into(),
            disk: Arc::new(disk),
            runner: Arc::new(Threads),
            tables: Arc::new(MemoryTables::default()),
            _dir: None,
        }
    }

    /// Makes the directories, durably.
    pub(crate) fn make(&self) {
        self.disk.create_dir_all(&self.snapshot()).unwrap();
        self.disk.sync_dir(Path::new("/")).unwrap();
        self.disk.sync_dir(&self.path).unwrap();
    }

    pub(crate) fn table(&self) -> PathBuf {
        self.path.join("table")
    }

    pub(crate) fn snapshot(&self) -> PathBuf {
        self.path.join("snapshot")
    }

    /// The names in the snapshot directory.
    pub(crate) fn snapshots(&self) -> Vec<String> {
        self.disk.list(&self.snapshot()).unwrap()
    }

    /// The path of the one snapshot.
    pub(crate) fn the_snapshot(&self) -> PathBuf {
        let names = self.snapshots();
        assert_eq!(names.len(), 1, "{names:?}");
        self.snapshot().join(&names[0])
    }

    /// Starts over a log that ends at `last` and was purged up to `purged`.
    pub(crate) fn start(&self, last: u64, purged: u64) -> Result<Node, OpenError> {
        let (synced, watch) = watch::channel(at(last));
        let told = Arc::new(Told::default());
        let (machine, checkpointer) = Machine::open(MachineOptions {
            disk: Arc::clone(&self.disk),
            runner: Arc::clone(&self.runner),
            tables: Arc::clone(&self.tables),
            table_dir: self.table(),
            snapshot_dir: self.snapshot(),
            log: LogExtent {
                last: at(last),
                purged: at(purged),
            },
            synced: watch,
            observer: Arc::clone(&told) as _,
            pieces: Pieces::default(),
        })?;
        Ok(Node {
            machine,
            checkpointer,
            synced,
            told,
        })
    }
}

/// The id of an entry of [`Log`]; none for 0.
pub(crate) fn at(index: u64) -> Option<LogId> {
    (index > 0).then(|| LogId::new_term_index(TERM, index))
}

pub(crate) struct Node {
    pub(crate) machine: Machine,
    pub(crate) checkpointer: Checkpointer,
    /// What the log has synced.
    pub(crate) synced: watch::Sender<Option<LogId>>,
    pub(crate) told: Arc<Told>,
}

impl Node {
    /// Applies entries that the log has synced.
    pub(crate) async fn apply(&mut self, entries: Vec<Entry>) {
        if let Some(last) = entries.last() {
            self.synced.send_replace(Some(last.log_id));
        }
        self.apply_unsynced(entries).await;
    }

    /// Applies entries that a majority has, and this node's log not yet on disk.
    pub(crate) async fn apply_unsynced(&mut self, entries: Vec<Entry>) {
        let entries = entries.into_iter().map(|entry| Ok((entry, None)));
        self.machine.apply(stream::iter(entries)).await.unwrap();
    }

    pub(crate) async fn build_snapshot(&mut self) -> SnapshotFile {
        let mut builder = self.machine.get_snapshot_builder().await;
        builder.build_snapshot().await.unwrap().snapshot
    }

    pub(crate) async fn applied(&mut self) -> u64 {
        let (last, _) = self.machine.applied_state().await.unwrap();
        last.map_or(0, |last| last.index)
    }

    pub(crate) fn state(&self) -> Frozen {
        self.machine.handle().read(LockTable::freeze)
    }
}

/// The state after the first entries of a log.
pub(crate) async fn model(seed: u64, entries: usize) -> Frozen {
    let place = Place::without_sled();
    let mut node = place.start(0, 0).unwrap();
    node.apply(Log::new(seed).take(entries)).await;
    node.state()
}
