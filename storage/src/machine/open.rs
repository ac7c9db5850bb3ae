//! What a node starts from.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use evermind_lock::table::{LockTable, Pieces};
use tokio::sync::watch;

use super::checkpoint::Checkpointer;
use super::hash_key::hash_key;
use super::live::{Live, Shared};
use super::observer::Observer;
use super::record::Digest;
use super::recover::{Kept, OpenedTable, open_table};
use super::shell::Machine;
use super::snapshot::{Found, Origin, SnapshotStore};
use super::table::{TableEngine, TableError};
use crate::data_dir::PUT_BACK_OR_STAY_OFF;
use crate::disk::Disk;
use crate::runner::Runner;
use crate::types::{LogId, StoredMembership};

/// How far the log reaches, as it was found on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogExtent {
    /// Its newest entry, or the newest purged one.
    pub last: Option<LogId>,
    /// Its newest entry that was purged.
    pub purged: Option<LogId>,
}

/// What a machine is opened with.
pub struct MachineOptions {
    /// For snapshots.
    pub disk: Arc<dyn Disk>,
    /// For work that blocks.
    pub runner: Arc<dyn Runner>,
    /// For checkpoints.
    pub tables: Arc<dyn TableEngine>,
    /// Where the checkpoint is.
    pub table_dir: PathBuf,
    /// Where snapshots are; must be there.
    pub snapshot_dir: PathBuf,
    /// The log as it was found.
    pub log: LogExtent,
    /// The log's newest entry on disk, as it changes.
    pub synced: watch::Receiver<Option<LogId>>,
    /// Is told of what is applied.
    pub observer: Arc<dyn Observer>,
    /// How much an entry ends of what is over: the same on every node of a cluster.
    pub pieces: Pieces,
}

/// Why a node must not start. Each text ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// What the log had synced is gone.
    #[error(
        "{path} covers the log up to {covered}, but the log ends at {}: entries that were on disk have vanished\nhint: this node may have forgotten what it promised: as to its data directory, {PUT_BACK_OR_STAY_OFF}",
        shown(.log_last.as_ref())
    )]
    LogVanished {
        /// The checkpoint or snapshot that knows better.
        path: PathBuf,
        /// How far it reaches.
        covered: LogId,
        /// How far the log reaches.
        log_last: Option<LogId>,
    },
    /// The log's beginning is gone, and nothing holds what was in it.
    #[error(
        "the log begins after {purged}, but the newest usable state, in {}, ends at {}: what is between is gone\nhint: as to this node's data directory, {PUT_BACK_OR_STAY_OFF}",
        .dir.display(), shown(.state.as_ref())
    )]
    StateVanished {
        /// The directory of snapshots.
        dir: PathBuf,
        /// The newest entry purged.
        purged: LogId,
        /// What there is.
        state: Option<LogId>,
    },
    /// A whole snapshot makes no table.
    #[error(
        "{path} cannot be used: {source}\nhint: was it written by a later version? start that version"
    )]
    Snapshot {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The checkpoint is open elsewhere, or not even an empty one can be made.
    #[error("{path} cannot be opened: {source}")]
    Table {
        /// Which.
        path: PathBuf,
        /// Why.
        source: TableError,
    },
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

fn shown(id: Option<&LogId>) -> String {
    id.map_or_else(|| "its beginning".into(), ToString::to_string)
}

impl Machine {
    /// Finds the newest state on disk and takes it into memory; openraft applies the rest of the
    /// log again. A checkpoint that cannot be used is put aside with one warning; a state that
    /// the log does not bear out is refused, before openraft sees it. Blocks.
    pub fn open(options: MachineOptions) -> Result<(Machine, Checkpointer), OpenError> {
        let snapshots = Arc::new(SnapshotStore::new(
            Arc::clone(&options.disk),
            Arc::clone(&options.runner),
            options.snapshot_dir.clone(),
        ));
        let io = |source| OpenError::Io {
            path: options.snapshot_dir.clone(),
            source,
        };
        let found = snapshots.find().map_err(io)?;
        check_built(&found, &options)?;
        let OpenedTable {
            store,
            kept,
            covered,
        } = open_table(&options)?;
        check_checkpoint(covered, &found, &options)?;
        let (kept, from_checkpoint) = choose(kept, &found)?;
        check_reaches_log(kept.as_ref(), &options)?;
        let installed = installed(&found).max();
        snapshots.adopt(found).map_err(io)?;

        let digest = kept.as_ref().map(|kept| kept.digest);
        let live = match kept {
            Some(kept) => Live {
                table: kept.table.in_pieces(options.pieces),
                last_applied: kept.meta.last_applied(),
                membership: kept.meta.membership(),
                generation: 0,
            },
            None => Live {
                table: LockTable::keyed(hash_key()).in_pieces(options.pieces),
                last_applied: None,
                membership: StoredMembership::default(),
                generation: 0,
            },
        };
        let shared = Arc::new(Shared::new(live, options.synced, installed));
        let kept = digest.filter(|_| from_checkpoint);
        let checkpointer = Checkpointer::new(Arc::clone(&shared), store, kept);
        let machine = Machine {
            shared,
            snapshots,
            runner: options.runner,
            observer: options.observer,
            pieces: options.pieces,
            applied: Vec::new(),
            events: Vec::new(),
        };
        Ok((machine, checkpointer))
    }
}

/// Whether a log that ends at `last` lacks this entry. Terms never go back in a log, so an older
/// last term with a higher index is as impossible as a lower index.
fn beyond(id: LogId, last: Option<LogId>) -> bool {
    last.is_none_or(|last| id > last || id.index > last.index)
}

/// What installed snapshots vouch for, damaged ones included: their names are the proof that they
/// once were in place.
fn installed(found: &Found) -> impl Iterator<Item = LogId> {
    found
        .names()
        .filter(|(name, _)| name.origin == Origin::Installed)
        .map(|(name, _)| name.last())
}

fn check_built(found: &Found, options: &MachineOptions) -> Result<(), OpenError> {
    let mut built = found
        .names()
        .filter(|(name, _)| name.origin == Origin::Built);
    match built.find(|(name, _)| beyond(name.last(), options.log.last)) {
        Some((name, path)) => Err(OpenError::LogVanished {
            path: path.into(),
            covered: name.last(),
            log_last: options.log.last,
        }),
        None => Ok(()),
    }
}

fn check_checkpoint(
    covered: Option<LogId>,
    found: &Found,
    options: &MachineOptions,
) -> Result<(), OpenError> {
    let Some(covered) = covered else {
        return Ok(());
    };
    if beyond(covered, options.log.last) && installed(found).all(|upto| upto < covered) {
        return Err(OpenError::LogVanished {
            path: options.table_dir.clone(),
            covered,
            log_last: options.log.last,
        });
    }
    Ok(())
}

fn check_reaches_log(kept: Option<&Kept>, options: &MachineOptions) -> Result<(), OpenError> {
    let state = kept.and_then(|kept| kept.meta.last_applied());
    match options.log.purged {
        Some(purged) if state.is_none_or(|state| state.index < purged.index) => {
            Err(OpenError::StateVanished {
                dir: options.snapshot_dir.clone(),
                purged,
                state,
            })
        }
        _ => Ok(()),
    }
}

/// The newer of checkpoint and snapshot, and whether it is the checkpoint.
fn choose(checkpoint: Option<Kept>, found: &Found) -> Result<(Option<Kept>, bool), OpenError> {
    let Some((_, snapshot)) = &found.newest else {
        let is_some = checkpoint.is_some();
        return Ok((checkpoint, is_some));
    };
    if let Some(checkpoint) = checkpoint
        && checkpoint.meta.last_applied >= snapshot.meta().last_applied
    {
        return Ok((Some(checkpoint), true));
    }
    let table = snapshot.load().map_err(|source| OpenError::Snapshot {
        path: snapshot.path().into(),
        source,
    })?;
    let kept = Kept {
        table,
        meta: snapshot.meta().clone(),
        digest: Digest::default(),
    };
    Ok((Some(kept), false))
}
