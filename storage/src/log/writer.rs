//! The one step that writes: it drains the queue, one write and one fdatasync a batch.

use std::mem;
use std::path::PathBuf;
use std::sync::Arc;

#[cfg(evermind_mutants)]
use evermind_lock::mutant::{self, Mutant};

use super::error::LogFailure;
use super::frame;
use super::index::FrameRef;
use super::memory::{Batch, Spare};
use super::record::{Head, State};
use super::segment::{self, Segment};
use super::shared::Shared;
use crate::disk;
use crate::runner::Flow;
use crate::types::LogId;

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    /// The last segment.
    pub(super) segment: Segment,
    /// Where the next frame goes.
    pub(super) offset: u64,
    /// The next frame's.
    pub(super) sequence: u64,
    /// See [`FrameRef::position`].
    pub(super) position: u64,
    /// As of what is written.
    pub(super) state: State,
    /// The frame being laid out.
    pub(super) frame: Vec<u8>,
}

impl Writer {
    /// Writes all that is queued.
    pub(super) fn step(&mut self) -> Flow {
        loop {
            let mut memory = self.shared.lock();
            if memory.failure.is_some() {
                return self.end(memory);
            }
            let queued = memory.queue.front().map_or(0, |batch| batch.payload.len());
            let Some(mut batch) = memory.take() else {
                if memory.closing {
                    return self.end(memory);
                }
                return Flow::Continue;
            };
            drop(memory);
            #[cfg(evermind_mutants)]
            if mutant::is(Mutant::AckBeforeSync) {
                for done in batch.done.drain(..) {
                    done.tell(Ok(()));
                }
            }
            match self.write(&batch) {
                Ok(frame) => self.complete(&mut batch, frame, queued),
                Err(failure) => {
                    // First the store is poisoned, then its callers learn of it.
                    self.shared.fail(failure.clone());
                    for done in batch.done {
                        done.tell(Err(failure.clone()));
                    }
                }
            }
        }
    }

    fn end(&self, mut memory: std::sync::MutexGuard<'_, super::memory::Memory>) -> Flow {
        memory.ended = true;
        drop(memory);
        self.shared.drained.notify_waiters();
        Flow::Stop
    }

    /// Puts one batch on disk. When this returns an error, nothing may be believed of it.
    fn write(&mut self, batch: &Batch) -> Result<FrameRef, LogFailure> {
        frame::write(self.sequence, &batch.payload, &mut self.frame);
        if self.offset + self.frame.len() as u64 > self.segment.bytes {
            self.roll_over()?;
            frame::write(self.sequence, &batch.payload, &mut self.frame);
        }
        let file = &*self.segment.file;
        disk::write_all_at(file, &self.frame, self.offset)
            .map_err(LogFailure::io("write", &self.segment.path))?;
        self.sync()?;
        let written = FrameRef {
            first: 0,
            last: 0,
            segment: self.segment.number,
            offset: self.offset,
            bytes: self.frame.len(),
            sequence: self.sequence,
            position: self.position,
        };
        self.offset += self.frame.len() as u64;
        self.position += self.frame.len() as u64;
        self.sequence += 1;
        #[cfg(evermind_mutants)]
        let before = self.state.vote;
        self.state = batch.after;
        #[cfg(evermind_mutants)]
        if mutant::is(Mutant::VoteNotPersisted) {
            // A segment's head must follow from what is on disk.
            self.state.vote = before;
        }
        Ok(written)
    }

    fn sync(&self) -> Result<(), LogFailure> {
        #[cfg(evermind_mutants)]
        if mutant::is(Mutant::LostFsync) {
            return Ok(());
        }
        let synced = self.segment.file.sync_data();
        synced.map_err(LogFailure::io("sync", &self.segment.path))
    }

    /// Goes on in a new segment: the spare, or one made on the spot.
    fn roll_over(&mut self) -> Result<(), LogFailure> {
        let shared = &self.shared;
        let spare = {
            let mut memory = shared.lock();
            match mem::replace(&mut memory.spare, Spare::None) {
                Spare::Ready(blank) => Some(blank),
                other => {
                    memory.spare = other;
                    None
                }
            }
        };
        let failure = |(action, path, error): (&'static str, PathBuf, std::io::Error)| {
            LogFailure::io(action, &path)(error)
        };
        let took_spare = spare.is_some();
        let blank = if let Some(blank) = spare {
            blank
        } else {
            let bytes = shared.options.segment_bytes;
            segment::make_blank(&*shared.disk, &shared.dir, segment::FRESH, bytes)
                .map_err(failure)?
        };
        let head = Head {
            segment: self.segment.number + 1,
            segment_bytes: blank.bytes,
            position: self.position,
            state: self.state,
        };
        let segment = segment::install(&*shared.disk, &shared.dir, blank, &head, self.sequence)
            .map_err(failure)?;
        shared.lock().segments.push_back(segment.clone());
        self.segment = segment;
        self.offset = frame::SECTOR_BYTES as u64;
        self.position += frame::SECTOR_BYTES as u64;
        self.sequence += 1;
        if took_spare {
            shared.make_spare();
        }
        Ok(())
    }

    /// A batch is on disk: says so, in order, and lets go of segments that hold nothing any more.
    fn complete(&mut self, batch: &mut Batch, frame: FrameRef, queued: usize) {
        let mut memory = self.shared.lock();
        memory.completed(batch, frame, queued);
        memory.position = self.position;
        let emptied = memory.take_emptied();
        let mut buffer = mem::take(&mut batch.payload);
        buffer.clear();
        memory.buffer = buffer;
        drop(memory);

        let last = batch.after.last.map(LogId::from);
        self.shared.last_synced.send_if_modified(|synced| {
            let changed = *synced != last;
            *synced = last;
            changed
        });
        for done in batch.done.drain(..) {
            done.tell(Ok(()));
        }
        self.shared.drained.notify_waiters();
        for segment in emptied {
            if let Err(failure) = self.remove(&segment) {
                return self.shared.fail(failure);
            }
        }
    }

    /// Removes one segment. The directory is synced before the next goes, so that a power cut
    /// leaves no gap in the numbers.
    fn remove(&self, segment: &Segment) -> Result<(), LogFailure> {
        let (disk, dir) = (&self.shared.disk, &self.shared.dir);
        disk.remove(&segment.path)
            .map_err(LogFailure::io("remove", &segment.path))?;
        disk.sync_dir(dir).map_err(LogFailure::io("sync", dir))
    }
}
