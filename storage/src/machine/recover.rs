//! Reading the checkpoint of the lease table back.

use std::io;
use std::path::{Path, PathBuf};

use evermind_lock::record::{Record, RecordKey};
use evermind_lock::table::LockTable;

use super::checkpoint::{CheckpointMeta, META_KEY, UNFINISHED_KEY};
use super::hash_key::hash_key;
use super::meta::StateMeta;
use super::open::{MachineOptions, OpenError};
use super::record::{self, Digest};
use super::table::{Scan, TableEngine, TableError, TableStore};
use crate::codec;
use crate::disk::Disk;
use crate::types::LogId;

/// A table as it was kept.
pub(super) struct Kept {
    pub(super) table: LockTable,
    pub(super) meta: StateMeta,
    pub(super) digest: Digest,
}

/// Opens the checkpoint's store and reads it. One that cannot be read is put aside, and an empty
/// one made: a table that is not there costs time, a wrong one would cost the truth.
pub(super) fn open_table(options: &MachineOptions) -> Result<OpenedTable, OpenError> {
    let dir = &options.table_dir;
    let io = |source| OpenError::Io {
        path: dir.clone(),
        source,
    };
    let opening = Opening::new(&*options.disk, dir);
    if opening.was_interrupted().map_err(io)? {
        set_aside(options, &"the last start ended while it was being opened").map_err(io)?;
        opening.end().map_err(io)?;
    }
    opening.start().map_err(io)?;
    let opened = match read_table(&*options.tables, dir) {
        Ok(opened) => opened,
        Err(source @ TableError::InUse) => {
            // Not for being damaged: whoever has it open may go on with it.
            opening.end().map_err(io)?;
            return Err(OpenError::Table {
                path: dir.clone(),
                source,
            });
        }
        Err(error) => {
            set_aside(options, &error).map_err(io)?;
            read_table(&*options.tables, dir).map_err(|source| OpenError::Table {
                path: dir.clone(),
                source,
            })?
        }
    };
    opening.end().map_err(io)?;
    Ok(opened)
}

fn set_aside(options: &MachineOptions, why: &dyn std::fmt::Display) -> io::Result<()> {
    let dir = &options.table_dir;
    let aside = options.tables.set_aside(dir)?;
    tracing::warn!(
        path = %dir.display(), aside = ?aside, why = %why,
        "the checkpoint of the lease table cannot be used; the table is rebuilt from the snapshot and the log"
    );
    Ok(())
}

/// What was found in a table.
pub(super) struct OpenedTable {
    pub(super) store: Box<dyn TableStore>,
    pub(super) kept: Option<Kept>,
    /// How far the log was on disk when the checkpoint was begun that is in it, whether or not it was
    /// ended.
    pub(super) covered: Option<LogId>,
}

fn read_table(tables: &dyn TableEngine, dir: &Path) -> Result<OpenedTable, TableError> {
    let store = tables.open(dir)?;
    let kept = match store.get(META_KEY)? {
        Some(meta) => Some(read_records(&*store, &meta)?),
        None => None,
    };
    let covered = match (&kept, store.get(UNFINISHED_KEY)?) {
        (Some(kept), _) => kept.meta.last_applied(),
        (None, Some(meta)) => {
            let meta: CheckpointMeta = codec::decode(&meta).map_err(TableError::new)?;
            meta.state.last_applied()
        }
        (None, None) => None,
    };
    Ok(OpenedTable {
        store,
        kept,
        covered,
    })
}

fn read_records(store: &dyn TableStore, meta: &[u8]) -> Result<Kept, TableError> {
    let meta: CheckpointMeta = codec::decode(meta).map_err(TableError::new)?;
    let mut records = Records {
        scan: store.scan(),
        digest: Digest::default(),
        failure: None,
    };
    let table = LockTable::restore_keyed(hash_key(), &mut records);
    if let Some(failure) = records.failure {
        return Err(failure);
    }
    if records.digest.sum() != meta.digest {
        return Err(TableError::new(
            "its records are not those its digest was made of",
        ));
    }
    Ok(Kept {
        table: table.map_err(TableError::new)?,
        meta: meta.state,
        digest: records.digest,
    })
}

/// A checkpoint's records; ends early at a failure, which is then told here.
struct Records<'a> {
    scan: Scan<'a>,
    digest: Digest,
    failure: Option<TableError>,
}

impl Iterator for Records<'_> {
    type Item = (RecordKey, Record);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let read = match self.scan.next()? {
                Ok((key, _)) if key == META_KEY || key == UNFINISHED_KEY => continue,
                Ok((key, value)) => {
                    self.digest.add(&key, &value);
                    record::decode(&key, &value).map_err(TableError::new)
                }
                Err(error) => Err(error),
            };
            return read.map_err(|error| self.failure = Some(error)).ok();
        }
    }
}

/// A mark beside the table's directory while it is being opened. Found at a start, it says that
/// the last one did not survive the opening.
struct Opening<'a> {
    disk: &'a dyn Disk,
    mark: PathBuf,
}

impl<'a> Opening<'a> {
    fn new(disk: &'a dyn Disk, table_dir: &Path) -> Self {
        let mut mark = table_dir.as_os_str().to_owned();
        mark.push(".opening");
        Self {
            disk,
            mark: mark.into(),
        }
    }

    fn was_interrupted(&self) -> io::Result<bool> {
        self.disk.exists(&self.mark)
    }

    fn start(&self) -> io::Result<()> {
        self.disk.create(&self.mark)?.sync_data()?;
        self.sync()
    }

    fn end(&self) -> io::Result<()> {
        self.disk.remove(&self.mark)?;
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        match self.mark.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => self.disk.sync_dir(dir),
            _ => self.disk.sync_dir(Path::new(".")),
        }
    }
}
