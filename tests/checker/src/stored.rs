//! What a node has stored: its table, reduced to a digest and to what can be compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use evermind_lock::command::LicenceId;
use evermind_lock::names::Resource;
use evermind_lock::record::RecordKey;
use evermind_lock::table::{LockTable, RestoreError};
use evermind_storage::codec;
use evermind_storage::disk::Disk;
use evermind_storage::log::archive;
use evermind_storage::machine::{
    LogExtent, Machine, MachineHandle, MachineOptions, Nobody, TableEngine,
};
use evermind_storage::runner::Runner;
use tokio::sync::watch;

use crate::committed::Committed;
use crate::spec::LineView;

/// A table at one entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableState {
    /// The newest entry that it covers.
    pub applied: u64,
    /// Its cluster time.
    pub now_ms: u64,
    /// Over every record, in order: equal tables have equal ones.
    pub digest: u128,
    /// Every held lock.
    pub held: BTreeMap<Resource, LineView>,
    /// What each licence was charged in its current period.
    pub used: BTreeMap<LicenceId, u64>,
    /// What the next grant gets.
    pub next_token: u64,
}

/// Why a node's table cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// Its log.
    #[error(transparent)]
    Log(#[from] evermind_storage::log::OpenError),
    /// Its checkpoint or snapshot. Boxed, as it is much bigger than the rest.
    #[error(transparent)]
    Machine(#[from] Box<evermind_storage::machine::OpenError>),
    /// Its records make no table.
    #[error("the records make no table: {0}")]
    Restore(#[from] RestoreError),
    /// The committed log ends before the table does.
    #[error("the table is at entry {applied}, the committed log ends at {last:?}")]
    Ahead {
        /// The table's newest entry.
        applied: u64,
        /// The log's.
        last: Option<u64>,
    },
}

impl TableState {
    /// Of a table that has applied the log up to `applied`.
    pub fn of(table: &LockTable, applied: u64) -> Self {
        let mut digest = twox_hash::XxHash3_128::new();
        let mut held = BTreeMap::new();
        for (key, record) in table.freeze().records() {
            let bytes = codec::encode(&(&key, &record));
            digest.write(&(bytes.len() as u64).to_le_bytes());
            digest.write(&bytes);
            if let RecordKey::Lock(resource) = key
                && let Some(view) = table.lock(&resource)
            {
                let view = LineView {
                    token: view.fencing_token,
                    expires_ms: table.now_ms() + view.expires_in_ms,
                    waiting: view.waiting,
                    fifo: view.fifo,
                };
                held.insert(resource, view);
            }
        }
        let licences = table.licences(None, usize::MAX, 0);
        Self {
            applied,
            now_ms: table.now_ms(),
            digest: digest.finish_128(),
            held,
            used: licences.iter().map(|l| (l.id, l.usage.used)).collect(),
            next_token: table.next_fencing_token(),
        }
    }

    /// What the rules make of the whole committed log.
    pub fn replay(committed: &Committed) -> Self {
        let mut table = LockTable::new().in_pieces(committed.pieces());
        Self::go_on(&mut table, None, committed);
        Self::of(&table, committed.last_index().unwrap_or_default())
    }

    fn go_on(table: &mut LockTable, applied: Option<u64>, committed: &Committed) {
        let mut events = Vec::new();
        for entry in committed.iter() {
            if let Some(command) = entry.command
                && applied.is_none_or(|applied| entry.at.log_index > applied)
            {
                table.apply(entry.at, command, &mut events);
                events.clear();
            }
        }
    }

    /// Of a running machine that has applied all of the committed log.
    pub fn of_machine(machine: &MachineHandle) -> Self {
        let applied = machine.progress().last_applied.map_or(0, |id| id.index);
        machine.read(|table| Self::of(table, applied))
    }
}

/// Where a stopped node's data is.
pub struct StoredNode<'a> {
    /// For the log and the snapshots.
    pub disk: Arc<dyn Disk>,
    /// For checkpoints.
    pub tables: Arc<dyn TableEngine>,
    /// For work that blocks.
    pub runner: Arc<dyn Runner>,
    /// The data directory, or a copy of it: opening may tidy it up.
    pub dir: &'a Path,
}

impl StoredNode<'_> {
    /// Opens the node's table as its next start would, and applies the rest of the committed log.
    ///
    /// # Errors
    /// If the node would not start, or is ahead of the committed log.
    pub fn open(&self, committed: &Committed) -> Result<TableState, StoredError> {
        let segments = archive::segments(&*self.disk, &self.dir.join("log"))?;
        let reach = archive::read(&*self.disk, &segments, |_| {})?;
        let last = reach.last.map(Into::into);
        let (_synced, watched) = watch::channel(last);
        let (machine, _checkpointer) = Machine::open(MachineOptions {
            disk: Arc::clone(&self.disk),
            runner: Arc::clone(&self.runner),
            tables: Arc::clone(&self.tables),
            table_dir: self.dir.join("table"),
            snapshot_dir: self.dir.join("snapshot"),
            log: LogExtent {
                last,
                purged: reach.purged.map(Into::into),
            },
            synced: watched,
            observer: Arc::new(Nobody),
            pieces: committed.pieces(),
        })
        .map_err(Box::new)?;
        let handle = machine.handle();
        let applied = handle.progress().last_applied.map(|id| id.index);
        if let Some(applied) = applied
            && committed.last_index().is_none_or(|last| last < applied)
        {
            return Err(StoredError::Ahead {
                applied,
                last: committed.last_index(),
            });
        }
        let table = match applied {
            Some(_) => LockTable::restore(handle.read(LockTable::freeze).records())?,
            None => LockTable::new(),
        };
        let mut table = table.in_pieces(committed.pieces());
        TableState::go_on(&mut table, applied, committed);
        Ok(TableState::of(
            &table,
            committed.last_index().unwrap_or_default(),
        ))
    }
}
