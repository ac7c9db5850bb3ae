//! The log as openraft uses it.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use tokio::sync::{oneshot, watch};

use super::LogOptions;
use super::error::{LogFailure, OpenError};
use super::memory::{Done, Memory, Spare};
use super::reader::LogReader;
use super::record::{self, Head, State};
use super::recovery::{self, Recovered};
use super::segment;
use super::shared::Shared;
use super::writer::Writer;
use crate::disk::Disk;
use crate::entry::{LogIdRecord, VoteRecord};
use crate::runner::Runner;
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// What was found when a log was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRecovery {
    /// The newest entry, or the newest purged one if there is none.
    pub last: Option<LogId>,
    /// Everything up to here was purged.
    pub purged: Option<LogId>,
    /// Whether a batch that was never acknowledged was cut: a crash tore it.
    pub torn: bool,
    /// Whether a vote is kept: without one, and without an entry, the node never took part.
    pub voted: bool,
}

/// The Raft log of one node. Clones are handles of the same log; when the last one is dropped,
/// what is queued is still written.
#[derive(Clone)]
pub struct LogStore {
    reader: LogReader,
    recovery: LogRecovery,
    handle: Arc<Handle>,
    /// Records of the append under way, encoded here and not under the lock.
    records: Vec<u8>,
}

struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl LogStore {
    /// Opens the log in `dir`, or makes one there. Blocks: not for an async thread. One directory
    /// must not be open twice; whoever owns the data directory sees to that.
    ///
    /// # Panics
    /// If the options make no sense: see [`LogOptions`].
    pub fn open(
        dir: &Path,
        disk: Arc<dyn Disk>,
        runner: Arc<dyn Runner>,
        options: LogOptions,
    ) -> Result<Self, OpenError> {
        options.check();
        make_dir(&*disk, dir)?;
        let Files { numbers, left_over } = list(&*disk, dir)?;
        let log = if numbers.is_empty() {
            clear(&*disk, &left_over)?;
            create(&*disk, dir, &options)?
        } else {
            let found = recovery::read(&*disk, dir, &numbers, &options)?;
            // Only now, for a refusal changes nothing.
            clear(&*disk, &left_over)?;
            found.rewrite(&*disk, dir)?
        };
        Ok(Self::start(log, dir, disk, runner, options))
    }

    fn start(
        log: Recovered,
        dir: &Path,
        disk: Arc<dyn Disk>,
        runner: Arc<dyn Runner>,
        options: LogOptions,
    ) -> Self {
        let recovery = LogRecovery {
            last: log.state.last.map(LogId::from),
            purged: log.state.purged.map(LogId::from),
            torn: log.torn,
            voted: log.state.vote.is_some(),
        };
        let segment = log.segments.back().expect("a log has a segment").clone();
        let memory = Memory {
            state: log.state,
            synced: log.state,
            cache: log.cache,
            frames: log.frames,
            segments: log.segments,
            position: log.position,
            queue: VecDeque::new(),
            queued_bytes: 0,
            writing_cut: None,
            spare: Spare::None,
            failure: None,
            closing: false,
            ended: false,
            payload_bytes_max: options.payload_bytes_max(),
            cache_bytes_max: options.cache_bytes_max,
            buffer: Vec::new(),
        };
        let shared = Arc::new(Shared::new(disk, runner, dir.to_owned(), options, memory));
        shared.make_spare();
        let mut writer = Writer {
            shared: Arc::clone(&shared),
            segment,
            offset: log.offset,
            sequence: log.sequence,
            position: log.position,
            state: log.state,
            frame: Vec::new(),
        };
        let bell = Arc::clone(&shared.bell);
        shared
            .runner
            .drive("log-write", bell, Box::new(move || writer.step()));
        Self {
            reader: LogReader {
                shared: Arc::clone(&shared),
            },
            recovery,
            handle: Arc::new(Handle(shared)),
            records: Vec::new(),
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.0
    }

    /// What was found when this log was opened.
    pub fn recovered(&self) -> LogRecovery {
        self.recovery
    }

    /// The newest entry that is on disk, or the newest purged one. A checkpoint must not cover
    /// more than this or an installed snapshot.
    pub fn last_synced(&self) -> Option<LogId> {
        *self.shared().last_synced.borrow()
    }

    /// [`LogStore::last_synced`] as it changes.
    pub fn watch_synced(&self) -> watch::Receiver<Option<LogId>> {
        self.shared().last_synced.subscribe()
    }

    /// Bytes on disk of the frames that hold entries above `index`, whole frames counted.
    pub fn bytes_since(&self, index: u64) -> u64 {
        let memory = self.shared().lock();
        let from = memory.frames.position_after(index);
        from.map_or(0, |from| memory.position - from)
    }

    /// Bytes that the log's segments take on disk, the spare included.
    pub fn bytes_on_disk(&self) -> u64 {
        let memory = self.shared().lock();
        let spare = match &memory.spare {
            Spare::Ready(blank) => blank.bytes,
            Spare::None | Spare::Making => 0,
        };
        let segments = memory.segments.iter();
        segments.map(|segment| segment.bytes).sum::<u64>() + spare
    }

    /// Waits for the error that stops this log, if ever one comes. The node must then stop.
    pub async fn failed(&self) -> LogFailure {
        let mut failed = self.shared().failed.subscribe();
        let failure = failed.wait_for(Option::is_some).await;
        let failure = failure.expect("this handle keeps the sender").clone();
        failure.expect("waited for one")
    }

    /// Writes what is queued, and waits until no step works on the directory any more. Later
    /// calls that write fail.
    pub async fn shutdown(&self) {
        self.shared().close();
        self.shared()
            .until(|memory| memory.ended && !matches!(memory.spare, Spare::Making))
            .await;
    }

    /// Queues a record, and waits until it is on disk.
    async fn write_through(&self, queue: impl FnOnce(&mut Memory)) -> io::Result<()> {
        let (tell, told) = oneshot::channel();
        {
            let mut memory = self.shared().writable()?;
            queue(&mut memory);
            memory.when_done(Done::Wait(tell));
        }
        self.shared().bell.ring();
        match told.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(io::Error::other("the log's step ended without an answer")),
        }
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.shared().live()?.state;
        Ok(LogState {
            last_purged_log_id: state.purged.map(LogId::from),
            last_log_id: state.last.map(LogId::from),
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let vote = VoteRecord::from(*vote);
        self.write_through(|memory| memory.vote(vote)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // It goes with the next batch: losing it costs a replay, never an entry.
        if let Some(committed) = committed {
            self.shared().writable()?.state.committed = Some(committed.into());
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared().live()?.state.committed.map(LogId::from))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        // openraft bounds what is in flight far below this; the wait makes that no assumption.
        let room = |memory: &Memory| {
            memory.queued_bytes < LogOptions::QUEUE_BYTES_MAX || memory.failure.is_some()
        };
        self.shared().until(room).await;

        self.records.clear();
        let mut encoded = Vec::new();
        for entry in entries {
            let start = self.records.len();
            record::put_entry(&entry, &mut self.records);
            encoded.push((entry, start..self.records.len()));
        }
        {
            let mut memory = self.shared().writable()?;
            check(&memory, &encoded)?;
            for (entry, range) in encoded {
                memory.append(entry, &self.records[range]);
            }
            memory.when_done(Done::Append(callback));
            memory.shrink();
        }
        self.shared().bell.ring();
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let after = last_log_id.map(LogIdRecord::from);
        self.write_through(|memory| memory.truncate_after(after))
            .await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        // Nobody relies on a purge: its record is written, and then whole segments go.
        if self.shared().writable()?.purge(log_id.into()) {
            self.shared().bell.ring();
        }
        Ok(())
    }
}

/// Refuses, before anything is queued, what the log could not hold.
fn check(memory: &Memory, entries: &[(Entry, std::ops::Range<usize>)]) -> io::Result<()> {
    let invalid = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    let mut next = memory.state.next_index();
    for (entry, record) in entries {
        let index = entry.log_id.index;
        if next.is_some_and(|next| next != index) {
            return invalid(format!("entry {index} does not follow the log's last"));
        }
        next = Some(index + 1);
        if record.len() > memory.record_bytes_max() {
            return invalid(format!("entry {index} is {} bytes long", record.len()));
        }
    }
    Ok(())
}

/// Makes the directory if there is none, durably.
fn make_dir(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    let mut made = Vec::new();
    for ancestor in dir
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty())
    {
        if disk
            .exists(ancestor)
            .map_err(OpenError::io("look for", ancestor))?
        {
            break;
        }
        made.push(ancestor);
    }
    disk.create_dir_all(dir)
        .map_err(OpenError::io("make", dir))?;
    for path in made.iter().rev() {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        disk.sync_dir(parent)
            .map_err(OpenError::io("sync", parent))?;
    }
    Ok(())
}

/// What is in the directory.
struct Files {
    /// The segments', sorted.
    numbers: Vec<u64>,
    /// What a crash left.
    left_over: Vec<PathBuf>,
}

fn list(disk: &dyn Disk, dir: &Path) -> Result<Files, OpenError> {
    let mut files = Files {
        numbers: Vec::new(),
        left_over: Vec::new(),
    };
    for name in disk.list(dir).map_err(OpenError::io("list", dir))? {
        if name.ends_with(segment::TEMPORARY) {
            files.left_over.push(dir.join(&name));
        } else if let Some(number) = segment::number(&name) {
            files.numbers.push(number);
        }
    }
    files.numbers.sort_unstable();
    Ok(files)
}

fn clear(disk: &dyn Disk, left_over: &[PathBuf]) -> Result<(), OpenError> {
    for path in left_over {
        disk.remove(path).map_err(OpenError::io("remove", path))?;
    }
    Ok(())
}

/// Makes the first segment.
fn create(disk: &dyn Disk, dir: &Path, options: &LogOptions) -> Result<Recovered, OpenError> {
    let failed = |(action, path, source)| OpenError::Io {
        action,
        path,
        source,
    };
    let head = Head {
        segment: 1,
        segment_bytes: options.segment_bytes,
        position: 0,
        state: State::default(),
    };
    let blank =
        segment::make_blank(disk, dir, segment::FRESH, options.segment_bytes).map_err(failed)?;
    let first = segment::install(disk, dir, blank, &head, 1).map_err(failed)?;
    let head_bytes = super::frame::SECTOR_BYTES as u64;
    Ok(Recovered {
        state: State::default(),
        cache: super::cache::Cache::default(),
        frames: super::index::FrameIndex::default(),
        segments: VecDeque::from([first]),
        offset: head_bytes,
        sequence: 2,
        position: head_bytes,
        torn: false,
    })
}
