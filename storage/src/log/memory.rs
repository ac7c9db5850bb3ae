//! What a running log knows without reading the disk.

use std::collections::VecDeque;
use std::mem;

#[cfg(evermind_mutants)]
use evermind_lock::mutant::{self, Mutant};
use openraft::storage::IOFlushed;
use tokio::sync::oneshot;

use super::cache::Cache;
use super::error::LogFailure;
use super::index::{Effect, FrameIndex, FrameRef};
use super::record::{self, State};
use super::segment::{Blank, Segment};
use crate::entry::{LogIdRecord, VoteRecord};
use crate::types::{Entry, TypeConfig};

/// Who is told once a batch is on disk.
pub(super) enum Done {
    /// openraft, of an append.
    Append(IOFlushed<TypeConfig>),
    /// A caller that waits: of a vote or a truncation.
    Wait(oneshot::Sender<Result<(), LogFailure>>),
}

impl Done {
    pub(super) fn tell(self, result: Result<(), LogFailure>) {
        match self {
            Done::Append(callback) => callback.io_completed(result.map_err(Into::into)),
            // A caller that went away needs no answer.
            Done::Wait(caller) => drop(caller.send(result)),
        }
    }
}

/// Records that go to disk as one frame.
pub(super) struct Batch {
    pub(super) payload: Vec<u8>,
    pub(super) done: Vec<Done>,
    /// What the log says once this is on disk.
    pub(super) after: State,
    pub(super) effect: Effect,
}

/// The segment made ahead of time.
pub(super) enum Spare {
    None,
    Making,
    Ready(Blank),
}

/// See [`Memory::find`].
#[derive(Default)]
pub(super) struct Found {
    pub(super) on_disk: Vec<(Segment, FrameRef)>,
    pub(super) decoded: Vec<Entry>,
}

pub(super) struct Memory {
    /// With everything queued.
    pub(super) state: State,
    /// With everything on disk.
    pub(super) synced: State,
    pub(super) cache: Cache,
    pub(super) frames: FrameIndex,
    pub(super) segments: VecDeque<Segment>,
    /// Bytes of frames since the log was made.
    pub(super) position: u64,
    pub(super) queue: VecDeque<Batch>,
    /// Payload bytes in the queue and in the batch being written.
    pub(super) queued_bytes: usize,
    /// Of the batch being written: see [`Effect::cut`].
    pub(super) writing_cut: Option<u64>,
    pub(super) spare: Spare,
    pub(super) failure: Option<LogFailure>,
    /// No one will call any more.
    pub(super) closing: bool,
    /// The step that writes has ended.
    pub(super) ended: bool,
    pub(super) payload_bytes_max: usize,
    pub(super) cache_bytes_max: usize,
    /// A used payload buffer, kept for the next batch.
    pub(super) buffer: Vec<u8>,
}

impl Memory {
    /// The batch that takes a record of `bytes`: the newest if it has room, else a new one.
    fn batch(&mut self, bytes: usize) -> &mut Batch {
        let room = self.payload_bytes_max - record::SMALL_RECORD_BYTES_MAX;
        let full = |batch: &Batch| batch.payload.len() + bytes > room;
        if self.queue.back().is_none_or(full) {
            self.queue.push_back(Batch {
                payload: mem::take(&mut self.buffer),
                done: Vec::new(),
                after: self.state,
                effect: Effect::default(),
            });
        }
        self.queued_bytes += bytes;
        self.queue.back_mut().expect("one was just there")
    }

    /// The most bytes a record may have.
    pub(super) fn record_bytes_max(&self) -> usize {
        self.payload_bytes_max - record::SMALL_RECORD_BYTES_MAX
    }

    /// Queues an entry whose record is `bytes`. The caller has made sure that it is the next one.
    pub(super) fn append(&mut self, entry: Entry, bytes: &[u8]) {
        let id = LogIdRecord::from(entry.log_id);
        self.state.last = Some(id);
        let state = self.state;
        let batch = self.batch(bytes.len());
        batch.payload.extend_from_slice(bytes);
        batch.effect.append(id.index);
        batch.after = state;
        self.cache.push(entry, bytes.len());
    }

    /// Whoever waits for what was queued last.
    pub(super) fn when_done(&mut self, done: Done) {
        self.batch(0).done.push(done);
    }

    fn small(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> &mut Batch {
        let batch = self.batch(record::SMALL_RECORD_BYTES_MAX);
        let before = batch.payload.len();
        put(&mut batch.payload);
        let bytes = batch.payload.len() - before;
        assert!(bytes <= record::SMALL_RECORD_BYTES_MAX, "stated bound");
        self.queued_bytes -= record::SMALL_RECORD_BYTES_MAX - bytes;
        let state = self.state;
        let batch = self.queue.back_mut().expect("it was just there");
        batch.after = state;
        batch
    }

    pub(super) fn vote(&mut self, vote: VoteRecord) {
        self.state.vote = Some(vote);
        self.small(|out| {
            #[cfg(evermind_mutants)]
            if mutant::is(Mutant::VoteNotPersisted) {
                return;
            }
            record::put_vote(&vote, out);
        });
    }

    pub(super) fn truncate_after(&mut self, after: Option<LogIdRecord>) {
        self.state.truncate_after(after);
        let end = self.state.end_index();
        self.cache.cut(end);
        self.small(|out| record::put_truncate(after, out))
            .effect
            .cut(end);
    }

    /// Says whether there was anything to do.
    pub(super) fn purge(&mut self, upto: LogIdRecord) -> bool {
        if !self.state.purge(upto) {
            return false;
        }
        let first = self.state.first_index();
        self.cache.purge_below(first);
        self.small(|out| record::put_purge(&upto, out))
            .effect
            .purge_below(first);
        true
    }

    /// Takes the next batch to write, the newest committed point with it where the batch and what
    /// is on disk have its entry.
    pub(super) fn take(&mut self) -> Option<Batch> {
        let mut batch = self.queue.pop_front()?;
        batch.after.committed = self.synced.committed;
        if let Some(committed) = self.state.committed
            && self.synced.committed != Some(committed)
            && batch.after.end_index() > committed.index
        {
            record::put_committed(&committed, &mut batch.payload);
            batch.after.committed = Some(committed);
        }
        self.writing_cut = batch.effect.cut;
        Some(batch)
    }

    /// A batch is on disk as `frame`, `payload_bytes` of it counted as queued.
    pub(super) fn completed(&mut self, batch: &Batch, frame: FrameRef, payload_bytes: usize) {
        self.frames.add(&batch.effect, frame);
        self.synced = batch.after;
        self.frames.purge_below(self.synced.first_index());
        self.writing_cut = None;
        self.queued_bytes -= payload_bytes;
        self.shrink();
    }

    /// Entries that are on disk leave the cache when it is full.
    pub(super) fn shrink(&mut self) {
        // A truncation on its way makes indexes on disk mean entries that are no more.
        let cuts = self.queue.iter().filter_map(|batch| batch.effect.cut);
        let safe = cuts.chain(self.writing_cut).min().unwrap_or(u64::MAX);
        let synced = self.synced.end_index().min(safe);
        self.cache.shrink(self.cache_bytes_max, synced);
    }

    /// Where entries of `[start, end)` are, up to `bytes_max` bytes of them: in frames to be read
    /// from disk, and after those, decoded. Entries that the log does not have are left out.
    pub(super) fn find(&self, start: u64, end: u64, bytes_max: usize) -> Found {
        let start = start.max(self.state.first_index());
        let end = end.min(self.state.end_index());
        let mut found = Found::default();
        if start >= end {
            return found;
        }
        let cached = self.cache.first_index().unwrap_or(end);
        if start < cached {
            for frame in self.frames.find(start, end.min(cached), bytes_max) {
                let at = usize::try_from(frame.segment - self.segments[0].number);
                let segment = self.segments[at.expect("few segments")].clone();
                found.on_disk.push((segment, frame));
            }
        }
        if found.on_disk.is_empty() || bytes_max == usize::MAX {
            found.decoded = self.cache.read(start.max(cached), end, bytes_max);
        }
        found
    }

    /// Segments, oldest first, that hold nothing any more: only those before the last, so that
    /// what stays starts with a head that is on disk.
    pub(super) fn take_emptied(&mut self) -> Vec<Segment> {
        let current = self.segments.back().expect("a log has a segment").number;
        let keep = self.frames.first_segment().unwrap_or(current);
        let emptied = self
            .segments
            .iter()
            .take_while(|segment| segment.number < keep)
            .count();
        self.segments.drain(..emptied).collect()
    }
}
