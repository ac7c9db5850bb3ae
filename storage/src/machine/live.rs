//! The table that reads are served from.

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use evermind_lock::changes::Changes;
use evermind_lock::table::{Frozen, LockTable};
use tokio::sync::watch;

use super::meta::StateMeta;
use super::observer::Progress;
use crate::types::{LogId, StoredMembership};

/// The table and what it covers.
pub(super) struct Live {
    pub(super) table: LockTable,
    pub(super) last_applied: Option<LogId>,
    pub(super) membership: StoredMembership,
    /// Goes up whenever the table is replaced: changes taken before say nothing about it.
    pub(super) generation: u64,
}

impl Live {
    pub(super) fn progress(&self) -> Progress {
        Progress {
            last_applied: self.last_applied,
            now_ms: self.table.now_ms(),
            wall_ms: self.table.wall_ms(),
            next_deadline_ms: self.table.next_deadline_ms(),
        }
    }

    fn meta(&self) -> StateMeta {
        StateMeta {
            last_applied: self.last_applied.map(Into::into),
            membership: (&self.membership).into(),
            cluster_ms: self.table.now_ms(),
        }
    }
}

/// A state of the machine that stays as it is.
pub(super) struct FrozenState {
    pub(super) meta: StateMeta,
    pub(super) records: Frozen,
}

/// A state, and what changed since the last one of these.
pub(super) struct Changed {
    pub(super) state: FrozenState,
    pub(super) changes: Changes,
    pub(super) generation: u64,
}

/// Shared by the machine, its readers, the checkpointer and snapshot builders.
pub(super) struct Shared {
    live: RwLock<Live>,
    /// The log's newest entry on disk.
    synced: watch::Receiver<Option<LogId>>,
    /// What installed snapshots cover: on disk too, although it may never have been in this log.
    installed: Mutex<Option<LogId>>,
}

/// A panic under the table's lock is a broken invariant in the rules: nobody may look at such a
/// table, and the process is about to end.
const POISONED: &str = "no entry left the table half changed";

impl Shared {
    pub(super) fn new(
        live: Live,
        synced: watch::Receiver<Option<LogId>>,
        installed: Option<LogId>,
    ) -> Self {
        Self {
            live: RwLock::new(live),
            synced,
            installed: Mutex::new(installed),
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Live> {
        self.live.read().expect(POISONED)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Live> {
        self.live.write().expect(POISONED)
    }

    pub(super) fn progress(&self) -> Progress {
        self.read().progress()
    }

    /// The state as it is now. Takes as long as copying one pointer a shard.
    pub(super) fn freeze(&self) -> FrozenState {
        let live = self.read();
        FrozenState {
            meta: live.meta(),
            records: live.table.freeze(),
        }
    }

    /// The newest entry that was applied, and which table it was applied to.
    pub(super) fn position(&self) -> (u64, Option<LogId>) {
        let live = self.read();
        (live.generation, live.last_applied)
    }

    /// The state as it is now, and what changed since this was last called.
    pub(super) fn changed(&self) -> Changed {
        let mut live = self.write();
        Changed {
            state: FrozenState {
                meta: live.meta(),
                records: live.table.freeze(),
            },
            changes: live.table.take_changes(),
            generation: live.generation,
        }
    }

    /// Puts another table in this one's place.
    pub(super) fn replace(&self, table: LockTable, meta: &StateMeta) -> Progress {
        let mut live = self.write();
        let old = std::mem::replace(&mut live.table, table);
        live.last_applied = meta.last_applied();
        live.membership = meta.membership();
        live.generation += 1;
        let progress = live.progress();
        drop(live);
        // Outside the lock: a big table takes its time to go.
        drop(old);
        progress
    }

    pub(super) fn set_installed(&self, upto: Option<LogId>) {
        let mut installed = self.installed();
        *installed = (*installed).max(upto);
    }

    fn installed(&self) -> std::sync::MutexGuard<'_, Option<LogId>> {
        self.installed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether everything up to this entry is on this node's disk.
    pub(super) fn is_durable(&self, upto: Option<LogId>) -> bool {
        upto <= *self.installed() || upto <= *self.synced.borrow()
    }

    /// Waits until it is. `false` if the log has stopped, and it never will be.
    pub(super) async fn durable(&self, upto: Option<LogId>) -> bool {
        if self.is_durable(upto) {
            return true;
        }
        let mut synced = self.synced.clone();
        synced.wait_for(|synced| upto <= *synced).await.is_ok()
    }
}

/// Reads the applied state of a machine. Cheap to clone.
#[derive(Clone)]
pub struct MachineHandle(pub(super) Arc<Shared>);

impl MachineHandle {
    /// Looks at the table. Applying waits meanwhile: don't block in `look`, and don't call this
    /// from within it.
    pub fn read<T>(&self, look: impl FnOnce(&LockTable) -> T) -> T {
        look(&self.0.read().table)
    }

    /// How far the table has come.
    pub fn progress(&self) -> Progress {
        self.0.progress()
    }

    /// The members, as of the newest applied entry.
    pub fn membership(&self) -> StoredMembership {
        self.0.read().membership.clone()
    }
}
