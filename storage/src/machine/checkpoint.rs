//! Writes what changed in the lease table to its checkpoint, now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use evermind_lock::record::RecordKey;
use evermind_lock::table::Frozen;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::live::{Changed, FrozenState, Shared};
use super::meta::StateMeta;
use super::record::{Digest, RawRecord};
use super::table::{Batch, TableError, TableStore};
use crate::codec;
use crate::runner::{Bell, Flow, Runner};
use crate::types::LogId;

/// Where a checkpoint says what it covers. No record's key starts like this: theirs start with the
/// codec's version, which is never 0.
pub(super) const META_KEY: &[u8] = b"\0checkpoint";

/// What [`META_KEY`] was, while the store covers nothing: it is no state to start from then, but it still
/// says how far the log once was on disk.
pub(super) const UNFINISHED_KEY: &[u8] = b"\0unfinished";

/// So many changes are made at once. More are made one by one, and the store says that it covers
/// nothing until the last: an engine keeps what a batch replaces in memory until its end.
const AT_ONCE_MAX: usize = 1024;

/// What a checkpoint says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CheckpointMeta {
    pub(super) state: StateMeta,
    /// Of every record.
    pub(super) digest: u128,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing was applied since the last checkpoint.
    Nothing,
    /// The log has not synced all of it yet: the next step writes it.
    Waiting,
    /// A checkpoint was written.
    Written {
        /// How many records were put or deleted.
        records: usize,
        /// Whether it was the whole table, not only what changed.
        whole: bool,
    },
}

/// What is to be written.
struct Cut {
    meta: StateMeta,
    generation: u64,
    work: Work,
}

enum Work {
    /// Keys, and their records or none: as bytes, because a frozen view must not live long. What
    /// the table changes meanwhile it has to copy, shard by shard.
    Changes(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    /// Everything. Rare: the first checkpoint of a table that came from elsewhere.
    Whole(Box<Frozen>),
}

/// Keeps a checkpoint of the table: the records that changed since the last one, and what it now
/// covers, in one batch.
///
/// A lock that was taken and released in between is not touched. Nothing is written that the log
/// has not synced: after a power cut the log never ends before the checkpoint.
pub struct Checkpointer {
    shared: Arc<Shared>,
    store: Box<dyn TableStore>,
    digest: Digest,
    written: Option<LogId>,
    generation: u64,
    /// The store holds nothing to build on.
    rewrite: bool,
    /// The store has [`UNFINISHED_KEY`].
    unfinished: bool,
    waiting: Option<Cut>,
}

impl Checkpointer {
    /// `kept` is what the store holds of the table as it is in `shared`, if it does.
    pub(super) fn new(
        shared: Arc<Shared>,
        store: Box<dyn TableStore>,
        kept: Option<Digest>,
    ) -> Self {
        let (generation, written) = shared.position();
        Self {
            shared,
            store,
            digest: kept.unwrap_or_default(),
            written,
            generation,
            rewrite: kept.is_none(),
            unfinished: false,
            waiting: None,
        }
    }

    /// Writes a checkpoint if there is something new. Blocks on files, and holds the table's lock
    /// only as long as freezing it takes. After an error the next step writes the whole table.
    pub fn step(&mut self) -> Result<Step, TableError> {
        let (generation, applied) = self.shared.position();
        let waiting = self.waiting.take();
        let cut = match waiting.filter(|cut| cut.generation == generation) {
            Some(cut) => cut,
            None if applied == self.written && generation == self.generation && !self.rewrite => {
                return Ok(Step::Nothing);
            }
            None => self.cut(),
        };
        if !self.shared.is_durable(cut.meta.last_applied()) {
            self.waiting = Some(cut);
            return Ok(Step::Waiting);
        }
        // Until it is done, the store is not what `digest` says.
        self.rewrite = true;
        let (records, whole) = match cut.work {
            Work::Changes(changes) => (self.write_changes(changes, &cut.meta)?, false),
            Work::Whole(records) => (self.write_whole(*records, &cut.meta)?, true),
        };
        self.rewrite = false;
        self.written = cut.meta.last_applied();
        self.generation = cut.generation;
        Ok(Step::Written { records, whole })
    }

    fn cut(&self) -> Cut {
        let Changed {
            state,
            changes,
            generation,
        } = self.shared.changed();
        let FrozenState { meta, records } = state;
        let work = if self.rewrite || generation != self.generation {
            Work::Whole(Box::new(records))
        } else {
            let encode = |key: RecordKey| {
                let record = records.record(&key);
                (
                    codec::encode(&key),
                    record.map(|record| codec::encode(&record)),
                )
            };
            Work::Changes(changes.keys().map(encode).collect())
        };
        Cut {
            meta,
            generation,
            work,
        }
    }

    fn write_changes(
        &mut self,
        changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        meta: &StateMeta,
    ) -> Result<usize, TableError> {
        let at_once = changes.len() <= AT_ONCE_MAX;
        if !at_once {
            self.cover_nothing()?;
        }
        let mut batch = Batch::default();
        let mut digest = self.digest;
        let mut records = 0;
        for (key, new) in changes {
            let old = self.store.get(&key)?;
            if old == new {
                continue;
            }
            if let Some(old) = old {
                digest.subtract(&key, &old);
            }
            if let Some(new) = &new {
                digest.add(&key, new);
            }
            records += 1;
            if at_once {
                batch.changes.push((key, new));
            } else {
                self.store.set(key, new)?;
            }
        }
        self.end(batch, meta, digest)?;
        Ok(records)
    }

    fn write_whole(&mut self, table: Frozen, meta: &StateMeta) -> Result<usize, TableError> {
        let covered = self.cover_nothing()?;
        self.store.clear()?;
        self.store.set(UNFINISHED_KEY.into(), covered)?;
        let mut digest = Digest::default();
        let mut records = 0;
        for (key, record) in table.into_records() {
            let RawRecord { key, value } = RawRecord::new(&key, &record);
            digest.add(&key, &value);
            self.store.set(key, Some(value))?;
            records += 1;
        }
        self.end(Batch::default(), meta, digest)?;
        Ok(records)
    }

    /// From here to the end of a checkpoint the store is nothing to start from. Found like this, the
    /// table is rebuilt from snapshot and log.
    fn cover_nothing(&mut self) -> Result<Option<Vec<u8>>, TableError> {
        let covered = match self.store.get(META_KEY)? {
            Some(covered) => Some(covered),
            None => self.store.get(UNFINISHED_KEY)?,
        };
        self.unfinished = true;
        self.store.set(UNFINISHED_KEY.into(), covered.clone())?;
        self.store.set(META_KEY.into(), None)?;
        self.store.flush()?;
        Ok(covered)
    }

    fn end(
        &mut self,
        mut batch: Batch,
        state: &StateMeta,
        digest: Digest,
    ) -> Result<(), TableError> {
        let meta = CheckpointMeta {
            state: state.clone(),
            digest: digest.sum(),
        };
        if std::mem::take(&mut self.unfinished) {
            batch.delete(UNFINISHED_KEY.into());
        }
        batch.put(META_KEY.into(), codec::encode(&meta));
        self.store.apply(batch)?;
        self.store.flush()?;
        self.digest = digest;
        Ok(())
    }
}

const RUN: u8 = 0;
/// Ends after one more step.
const FINISH: u8 = 1;
/// Ends at once.
const ABANDON: u8 = 2;

/// A checkpointer at work: on a thread, or as a task of a simulation. Dropped, it ends without a
/// last checkpoint.
pub struct Checkpoints {
    bell: Arc<Bell>,
    /// How many steps were asked for, and which of them last found nothing to write.
    asked: Arc<AtomicU64>,
    settled: Arc<AtomicU64>,
    state: Arc<AtomicU8>,
    ended: Option<oneshot::Receiver<()>>,
}

impl Checkpoints {
    /// Starts. `failed` is called from there when a step fails.
    pub fn start(
        checkpointer: Checkpointer,
        runner: &dyn Runner,
        mut failed: impl FnMut(TableError) + Send + 'static,
    ) -> Self {
        let bell = Arc::new(Bell::default());
        let state = Arc::new(AtomicU8::new(RUN));
        let (end, ended) = oneshot::channel();
        let mut working = Some((checkpointer, end));
        let told = Arc::clone(&state);
        let (asked, settled) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (which, nothing) = (Arc::clone(&asked), Arc::clone(&settled));
        let step = move || {
            let which = which.load(Ordering::Acquire);
            let told = told.load(Ordering::Acquire);
            if let Some((checkpointer, _)) = &mut working
                && told != ABANDON
            {
                match checkpointer.step() {
                    Ok(Step::Nothing) => nothing.store(which, Ordering::Release),
                    Ok(Step::Waiting | Step::Written { .. }) => {}
                    Err(error) => failed(error),
                }
            }
            if told == RUN {
                return Flow::Continue;
            }
            if let Some((checkpointer, end)) = working.take() {
                // Closes the store before anyone is told.
                drop(checkpointer);
                let _ = end.send(());
            }
            Flow::Stop
        };
        runner.drive("checkpoint", Arc::clone(&bell), Box::new(step));
        Self {
            bell,
            asked,
            settled,
            state,
            ended: Some(ended),
        }
    }

    /// Asks for a checkpoint: about once a second.
    pub fn tick(&self) {
        self.asked.fetch_add(1, Ordering::Release);
        self.bell.ring();
    }

    /// Whether a step since the last [`tick`](Self::tick) found nothing to write: no other is needed
    /// before something is applied.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire) == self.asked.load(Ordering::Acquire)
    }

    /// Takes a last checkpoint and closes the store.
    pub async fn stop(mut self) {
        self.end(FINISH);
        if let Some(ended) = self.ended.take() {
            // Either way it has ended.
            let _ = ended.await;
        }
    }

    fn end(&self, how: u8) {
        self.state.store(how, Ordering::Release);
        self.bell.ring();
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        if self.state.load(Ordering::Acquire) == RUN {
            self.end(ABANDON);
        }
    }
}
