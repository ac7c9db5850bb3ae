//! The directory of snapshots: the newest one, under a name that says what it is.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::file::{SnapshotFile, TempFile};
use super::format::{SnapshotError, Writer};
use super::receiver::SnapshotReceiver;
use crate::disk::Disk;
use crate::entry::LogIdRecord;
use crate::machine::live::FrozenState;
use crate::machine::record::RawRecord;
use crate::runner::Runner;
use crate::types::LogId;

/// Where a snapshot came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This node made it of its own table: its log had every entry of it.
    Built,
    /// A leader sent it: this node's log may never have had its entries.
    Installed,
}

/// A snapshot's name: `<index>-<term>.<origin>`. The rename that gives it is what installs a
/// snapshot, so its origin is known exactly when the snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::machine) struct Name {
    pub(in crate::machine) upto: LogIdRecord,
    pub(in crate::machine) origin: Origin,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogIdRecord { term, index } = self.upto;
        let origin = match self.origin {
            Origin::Built => "built",
            Origin::Installed => "installed",
        };
        write!(f, "{index:020}-{term:020}.{origin}")
    }
}

impl Name {
    /// The newest entry it covers.
    pub(in crate::machine) fn last(&self) -> LogId {
        self.upto.into()
    }

    fn parse(name: &str) -> Option<Self> {
        let (upto, origin) = name.split_once('.')?;
        let (index, term) = upto.split_once('-')?;
        let parsed = Self {
            upto: LogIdRecord {
                term: term.parse().ok()?,
                index: index.parse().ok()?,
            },
            origin: match origin {
                "built" => Origin::Built,
                "installed" => Origin::Installed,
                _ => return None,
            },
        };
        (parsed.to_string() == name).then_some(parsed)
    }
}

/// So many records are written between two rests: one to two ms of work.
const REST_EVERY_RECORDS: usize = 256;

/// What was found in the directory.
pub(in crate::machine) struct Found {
    /// The newest whole snapshot.
    pub(in crate::machine) newest: Option<(Name, SnapshotFile)>,
    /// Damaged ones that are newer.
    pub(in crate::machine) damaged: Vec<(Name, PathBuf, SnapshotError)>,
    /// Whole ones that are older.
    older: Vec<PathBuf>,
}

impl Found {
    /// The names and paths of the newest one and of damaged newer ones.
    pub(in crate::machine) fn names(&self) -> impl Iterator<Item = (&Name, &Path)> {
        let newest = self.newest.iter();
        let newest = newest.map(|(name, file)| (name, file.path.as_path()));
        let damaged = self.damaged.iter();
        newest.chain(damaged.map(|(name, path, _)| (name, path.as_path())))
    }
}

/// The snapshots of a node.
pub(in crate::machine) struct SnapshotStore {
    disk: Arc<dyn Disk>,
    runner: Arc<dyn Runner>,
    dir: PathBuf,
    /// Held while files are renamed.
    commit: Mutex<()>,
    current: Mutex<Option<SnapshotFile>>,
    /// Numbers temporary files.
    temps: AtomicU64,
}

impl SnapshotStore {
    pub(in crate::machine) fn new(
        disk: Arc<dyn Disk>,
        runner: Arc<dyn Runner>,
        dir: PathBuf,
    ) -> Self {
        Self {
            disk,
            runner,
            dir,
            commit: Mutex::new(()),
            current: Mutex::new(None),
            temps: AtomicU64::new(1),
        }
    }

    /// Looks at the directory without changing anything but leftovers. Blocks.
    pub(in crate::machine) fn find(&self) -> io::Result<Found> {
        let mut names = Vec::new();
        for name in self.disk.list(&self.dir)? {
            if has_extension(&name, "tmp") {
                self.disk.remove(&self.dir.join(&name))?;
            } else if let Some(name) = Name::parse(&name) {
                names.push(name);
            }
        }
        names.sort_by_key(|name| std::cmp::Reverse(name.upto));
        let mut found = Found {
            newest: None,
            damaged: Vec::new(),
            older: Vec::new(),
        };
        for name in names {
            let path = self.dir.join(name.to_string());
            if found.newest.is_some() {
                found.older.push(path);
                continue;
            }
            match SnapshotFile::open(&*self.disk, &self.runner, &path) {
                Ok(file) => found.newest = Some((name, file)),
                Err(SnapshotError::Io(error)) => return Err(error),
                Err(error) => found.damaged.push((name, path, error)),
            }
        }
        Ok(found)
    }

    /// Takes what was found: damaged ones are set aside (the last one is kept), older ones go.
    /// Blocks.
    pub(in crate::machine) fn adopt(&self, found: Found) -> io::Result<()> {
        for (_, path, error) in &found.damaged {
            let aside = self.dir.join("damaged");
            tracing::warn!(
                path = %path.display(), aside = %aside.display(), %error,
                "a damaged snapshot is set aside"
            );
            self.disk.rename(path, &aside)?;
        }
        for path in &found.older {
            self.disk.remove(path)?;
        }
        // Always: the process that gave the newest its name may have died before it had synced it,
        // and from now on the log may be purged up to there.
        self.disk.sync_dir(&self.dir)?;
        *self.lock_current() = found.newest.map(|(_, file)| file);
        Ok(())
    }

    /// The newest snapshot.
    pub(in crate::machine) fn current(&self) -> Option<SnapshotFile> {
        self.lock_current().clone()
    }

    /// Starts to receive one.
    pub(in crate::machine) async fn receive(&self) -> io::Result<SnapshotReceiver> {
        let path = self.temp_path("receiving");
        SnapshotReceiver::start(Arc::clone(&self.disk), Arc::clone(&self.runner), path).await
    }

    /// Writes a state into a file of its own and syncs it. Blocks.
    pub(in crate::machine) fn write(&self, state: FrozenState) -> io::Result<SnapshotFile> {
        let temp = TempFile::create(Arc::clone(&self.disk), self.temp_path("building"))?;
        let mut writer = Writer::start(Arc::clone(&temp.file), &state.meta)?;
        let mut rest = self.runner.rests();
        for (number, (key, record)) in state.records.into_records().enumerate() {
            writer.push(&RawRecord::new(&key, &record))?;
            if number % REST_EVERY_RECORDS == REST_EVERY_RECORDS - 1 {
                rest();
            }
        }
        let len = writer.finish()?;
        Ok(SnapshotFile::received(
            temp,
            len,
            state.meta,
            Arc::clone(&self.runner),
        ))
    }

    /// Makes a file the snapshot of this node, durably, unless there is one that covers as much.
    /// Returns the one that it is then. Blocks.
    pub(in crate::machine) fn commit(
        &self,
        file: &SnapshotFile,
        origin: Origin,
    ) -> io::Result<SnapshotFile> {
        let _one_at_a_time = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current();
        if let Some(before) = &before
            && before.meta.last_applied >= file.meta.last_applied
        {
            return Ok(before.clone());
        }
        let name = Name {
            upto: file
                .meta
                .last_applied
                .unwrap_or(LogIdRecord { term: 0, index: 0 }),
            origin,
        };
        let path = self.dir.join(name.to_string());
        self.disk.rename(&file.path, &path)?;
        let file = file.renamed(path);
        self.disk.sync_dir(&self.dir)?;
        *self.lock_current() = Some(file.clone());
        if let Some(before) = before {
            self.disk.remove(&before.path)?;
            self.disk.sync_dir(&self.dir)?;
        }
        tracing::info!(
            path = %file.path.display(), bytes = file.len, ?origin,
            "a snapshot is in place"
        );
        Ok(file)
    }

    fn temp_path(&self, what: &str) -> PathBuf {
        let number = self.temps.fetch_add(1, Ordering::Relaxed);
        self.dir.join(format!("{what}-{number}.tmp"))
    }

    fn lock_current(&self) -> MutexGuard<'_, Option<SnapshotFile>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e == extension)
}
