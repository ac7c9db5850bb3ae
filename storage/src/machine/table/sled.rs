//! Tables in sled.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Batch, Scan, TableEngine, TableError, TableStore};

/// What sled may keep of its pages in memory: 2 MiB. Reads of locks never come here, so this is
/// for the checkpointer alone.
const CACHE_BYTES: u64 = 2 << 20;
/// How long a table that was closed in this process may take to be closed.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// Directories put aside that are kept.
const ASIDE_MAX: usize = 2;

/// sled 0.34. Its flush is no device flush, and a damaged directory may make it panic: it holds a
/// checkpoint, never the truth.
#[derive(Debug, Clone, Copy, Default)]
pub struct SledTables;

struct SledTable {
    /// Always there, until it is closed.
    db: Option<sled::Db>,
    file: PathBuf,
}

impl SledTable {
    fn db(&self) -> &sled::Db {
        self.db.as_ref().expect("it is taken by its drop alone")
    }
}

/// sled panics where it cannot sync its file as it closes, and a panic ends the process: a node that
/// stops because its disk fails would die of that, with another reason than its own.
impl Drop for SledTable {
    fn drop(&mut self) {
        let synced = File::open(&self.file).and_then(|file| file.sync_all());
        if let Err(error) = synced {
            tracing::warn!(%error, "the checkpoint of the lease table is left as it is");
            std::mem::forget(self.db.take());
        }
    }
}

impl From<sled::Error> for TableError {
    fn from(error: sled::Error) -> Self {
        Self::new(error)
    }
}

impl TableEngine for SledTables {
    fn open(&self, dir: &Path) -> Result<Box<dyn TableStore>, TableError> {
        wait_until_closed(dir)?;
        let db = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            // We flush: once a checkpoint, and never in between.
            .flush_every_ms(None)
            .open()?;
        Ok(Box::new(SledTable {
            db: Some(db),
            file: dir.join("db"),
        }))
    }

    fn set_aside(&self, dir: &Path) -> io::Result<Option<PathBuf>> {
        if !std::fs::exists(dir)? {
            return Ok(None);
        }
        let parent = dir.parent().unwrap_or(Path::new("."));
        let prefix = format!(
            "{}.broken-",
            dir.file_name().unwrap_or_default().to_string_lossy()
        );
        let mut aside: Vec<u64> = Vec::new();
        for entry in std::fs::read_dir(parent)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(&prefix));
            aside.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        aside.sort_unstable();
        let next = aside.last().map_or(1, |last| last + 1);
        let excess = (aside.len() + 1).saturating_sub(ASIDE_MAX);
        for old in &aside[..excess] {
            std::fs::remove_dir_all(parent.join(format!("{prefix}{old}")))?;
        }
        let to = parent.join(format!("{prefix}{next}"));
        std::fs::rename(dir, &to)?;
        std::fs::File::open(parent)?.sync_all()?;
        Ok(Some(to))
    }
}

/// sled locks its file, and threads of its own may keep it open for a moment after the last handle
/// was dropped. Its complaint about that cannot be told from damage, so the lock is tried before.
fn wait_until_closed(dir: &Path) -> Result<(), TableError> {
    let file = match File::options().read(true).write(true).open(dir.join("db")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(TableError::new(error)),
    };
    let deadline = Instant::now() + CLOSE_WITHIN;
    loop {
        match file.try_lock() {
            // Given back as the file is closed, for sled to take.
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(TryLockError::WouldBlock) => return Err(TableError::InUse),
            Err(TryLockError::Error(error)) => return Err(TableError::new(error)),
        }
    }
}

impl TableStore for SledTable {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        Ok(self.db().get(key)?.map(|value| value.to_vec()))
    }

    fn scan(&self) -> Scan<'_> {
        Box::new(self.db().iter().map(|entry| {
            let (key, value) = entry?;
            Ok((key.to_vec(), value.to_vec()))
        }))
    }

    fn apply(&mut self, batch: Batch) -> Result<(), TableError> {
        let mut changes = sled::Batch::default();
        for (key, value) in batch.changes {
            match value {
                Some(value) => changes.insert(key, value),
                None => changes.remove(key),
            }
        }
        Ok(self.db().apply_batch(changes)?)
    }

    fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), TableError> {
        match value {
            Some(value) => self.db().insert(key, value)?,
            None => self.db().remove(key)?,
        };
        Ok(())
    }

    fn clear(&mut self) -> Result<(), TableError> {
        Ok(self.db().clear()?)
    }

    fn flush(&mut self) -> Result<(), TableError> {
        self.db().flush()?;
        Ok(())
    }
}
