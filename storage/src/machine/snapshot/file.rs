//! A whole snapshot in a file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use evermind_lock::record::{Record, RecordKey};
use evermind_lock::table::LockTable;

use super::format::{Reader, SnapshotError};
use crate::disk::{Disk, DiskFile, read_exact_at};
use crate::machine::hash_key::hash_key;
use crate::machine::meta::StateMeta;
use crate::machine::offload::offload;
use crate::machine::record;
use crate::runner::Runner;
use crate::types::SnapshotMeta;

/// A whole snapshot, checked when this was made. It can be read even after a newer one has taken
/// its place on disk.
#[derive(Clone)]
pub struct SnapshotFile {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) path: PathBuf,
    pub(super) len: u64,
    pub(super) meta: StateMeta,
    /// Removes the file unless it is installed; none once it is the snapshot of its node.
    pub(super) temp: Option<Arc<TempFile>>,
    runner: Arc<dyn Runner>,
}

/// A file that goes with its owner, unless it is kept.
pub(super) struct TempFile {
    disk: Arc<dyn Disk>,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) path: PathBuf,
    kept: AtomicBool,
}

impl TempFile {
    /// Makes the file. Blocks.
    pub(super) fn create(disk: Arc<dyn Disk>, path: PathBuf) -> io::Result<Self> {
        let file = disk.create(&path)?;
        Ok(Self {
            disk,
            file,
            path,
            kept: AtomicBool::new(false),
        })
    }

    /// It has another name now.
    pub(super) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !*self.kept.get_mut() {
            // The next start removes what could not be removed now.
            let _ = self.disk.remove(&self.path);
        }
    }
}

impl SnapshotFile {
    /// A file that was written or received, and checked.
    pub(super) fn received(
        temp: TempFile,
        len: u64,
        meta: StateMeta,
        runner: Arc<dyn Runner>,
    ) -> Self {
        Self {
            file: Arc::clone(&temp.file),
            path: temp.path.clone(),
            len,
            meta,
            temp: Some(Arc::new(temp)),
            runner,
        }
    }

    /// The same under its lasting name.
    pub(super) fn renamed(&self, path: PathBuf) -> Self {
        if let Some(temp) = &self.temp {
            temp.keep();
        }
        Self {
            path,
            temp: None,
            ..self.clone()
        }
    }

    /// Opens a file and checks every byte of it. Blocks.
    pub(super) fn open(
        disk: &dyn Disk,
        runner: &Arc<dyn Runner>,
        path: &Path,
    ) -> Result<Self, SnapshotError> {
        let file = disk.open(path)?;
        let meta = check(&*file)?;
        let len = file.len()?;
        Ok(Self {
            file,
            path: path.into(),
            len,
            meta,
            temp: None,
            runner: Arc::clone(runner),
        })
    }

    /// What it covers.
    pub fn meta(&self) -> &StateMeta {
        &self.meta
    }

    /// What it covers, in openraft's words.
    pub fn snapshot_meta(&self) -> SnapshotMeta {
        self.meta.snapshot_meta()
    }

    /// Its length, in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never true: even an empty table has a header.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it lies, or lay before a newer one took its place.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads up to `len` bytes at an offset, off the async threads; empty at the end.
    pub async fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(left)];
        let file = Arc::clone(&self.file);
        offload(&*self.runner, "snapshot-read", move || {
            read_exact_at(&*file, &mut bytes, offset)?;
            Ok(bytes.into())
        })
        .await
    }

    /// The table it was made of. Blocks.
    pub(in crate::machine) fn load(&self) -> io::Result<LockTable> {
        let (_, reader) = Reader::start(&*self.file).map_err(invalid)?;
        let mut records = Records {
            reader,
            failure: None,
        };
        let table = LockTable::restore_keyed(hash_key(), &mut records);
        match records.failure {
            Some(failure) => Err(failure),
            None => table.map_err(invalid),
        }
    }
}

impl fmt::Debug for SnapshotFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotFile")
            .field("path", &self.path)
            .field("len", &self.len)
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

/// Reads all of a snapshot: every checksum, the count, the digest.
pub(super) fn check(file: &dyn DiskFile) -> Result<StateMeta, SnapshotError> {
    let (meta, mut reader) = Reader::start(file)?;
    while reader.next()?.is_some() {}
    Ok(meta)
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A snapshot's records; ends early at a failure, which is then told here.
struct Records<'a> {
    reader: Reader<'a>,
    failure: Option<io::Error>,
}

impl Iterator for Records<'_> {
    type Item = (RecordKey, Record);

    fn next(&mut self) -> Option<Self::Item> {
        let read = match self.reader.next() {
            Ok(None) => return None,
            Ok(Some((key, value))) => record::decode(key, value).map_err(invalid),
            Err(error) => Err(invalid(error)),
        };
        read.map_err(|error| self.failure = Some(error)).ok()
    }
}
