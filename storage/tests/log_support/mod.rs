//! What the tests of the log share: a simulated disk, small segments, entries that tell themselves
//! apart.
#![allow(dead_code, clippy::unwrap_used, clippy::missing_panics_doc)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use evermind_lock::command::{Action, Command, Stamp};
use evermind_storage::disk::sim::SimDisk;
use evermind_storage::log::{LogOptions, LogStore, OpenError};
use evermind_storage::runner::Tasks;
use evermind_storage::types::{Entry, LogId, Proposal, TypeConfig};
use openraft::EntryPayload;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use tokio::sync::oneshot;

/// Where the log is.
pub(crate) fn dir() -> PathBuf {
    PathBuf::from("/data/log")
}

/// Segments of sixteen sectors, frames of up to six, and a cache of a few entries.
pub(crate) fn small() -> LogOptions {
    LogOptions {
        segment_bytes: 8 << 10,
        frame_bytes_max: 3 << 10,
        cache_bytes_max: 300,
    }
}

/// Runs one thread's worth of tasks: the same each time.
pub(crate) fn run<F: Future>(test: F) -> F::Output {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.build().unwrap().block_on(test)
}

/// Opens the log of a simulated disk; within a runtime.
pub(crate) fn open(disk: &SimDisk) -> Result<LogStore, OpenError> {
    open_with(disk, small())
}

/// The same with other sizes.
pub(crate) fn open_with(disk: &SimDisk, options: LogOptions) -> Result<LogStore, OpenError> {
    LogStore::open(&dir(), Arc::new(disk.clone()), Arc::new(Tasks), options)
}

/// An id.
pub(crate) fn id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

/// An entry of about `bytes` bytes.
pub(crate) fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let payload = if bytes == 0 {
        EntryPayload::Blank
    } else {
        EntryPayload::Normal(Proposal {
            stamp: Stamp {
                cluster_ms: index,
                term,
                wall_ms: 1_700_000_000_000 + index,
            },
            command: Arc::new(Command {
                operation: None,
                action: Action::Found {
                    global_prefix: "x".repeat(bytes),
                },
            }),
        })
    };
    Entry {
        log_id: id(term, index),
        payload,
    }
}

/// Appends; the receiver hears once the entries are on disk, or never will be.
pub(crate) async fn append(
    log: &mut LogStore,
    entries: Vec<Entry>,
) -> std::io::Result<oneshot::Receiver<std::io::Result<()>>> {
    let (tell, told) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(tell)).await?;
    Ok(told)
}

/// Appends, and waits for the disk.
pub(crate) async fn append_synced(log: &mut LogStore, entries: Vec<Entry>) -> std::io::Result<()> {
    append(log, entries).await?.await.unwrap()
}

/// Every entry of a log.
pub(crate) async fn entries(log: &mut LogStore) -> std::io::Result<Vec<Entry>> {
    log.get_log_reader().await.try_get_log_entries(..).await
}

/// The segments on a disk, oldest first.
pub(crate) fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|suffix| suffix == "log");
    disk.files().into_iter().filter(is_segment).collect()
}

/// Whether opening was refused for damage in this file.
pub(crate) fn refused(opened: Result<LogStore, OpenError>, file: &Path) -> bool {
    matches!(opened, Err(OpenError::Damaged { path, .. }) if path == file)
}

/// splitmix64: the same numbers from the same seed.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    /// Any number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let at = self.below(from.len() as u64);
        &from[usize::try_from(at).unwrap()]
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
