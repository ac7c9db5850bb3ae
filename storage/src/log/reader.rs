//! Reading entries back: from memory, or from the disk off the async threads.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use openraft::OptionalSend;
use openraft::errors::LeaderChanged;
use openraft::storage::{LeaderBoundedStreamError, RaftLogReader};
use openraft::type_config::alias::LeaderIdOf;
use tokio::sync::oneshot;

use super::error::LogFailure;
use super::frame::{self, HeaderSector};
use super::index::FrameRef;
use super::memory::Found;
use super::record::{self, Record};
use super::segment::Segment;
use super::shared::Shared;
use crate::disk;
use crate::types::{Entry, TypeConfig, Vote};

/// The most encoded bytes that one limited read returns, and one step of a stream.
pub(super) const READ_BYTES_MAX: usize = 4 << 20;

/// Reads the log. Made by [`super::LogStore`], and outlives it.
#[derive(Clone)]
pub struct LogReader {
    pub(super) shared: Arc<Shared>,
}

impl LogReader {
    /// Entries of `[start, end)` that the log has, from the first on, all or up to `bytes_max`
    /// bytes; always one if there is one.
    async fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let Found { on_disk, decoded } = self.shared.live()?.find(start, end, bytes_max);
        if on_disk.is_empty() {
            return Ok(decoded);
        }
        let (tell, told) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let job = move || {
            let read = read_frames(&on_disk);
            if let Err(failure) = &read {
                shared.fail(failure.clone());
            }
            // A caller that went away needs no answer.
            drop(tell.send(read));
        };
        self.shared.runner.once("log-read", Box::new(job));
        let mut entries = told
            .await
            .map_err(|_| io::Error::other("the reading step ended without an answer"))??;
        entries.extend(decoded);
        Ok(entries)
    }

    /// The vote that is on disk, unless a newer one is on its way there.
    fn settled_vote(&self) -> io::Result<Option<Vote>> {
        let memory = self.shared.live()?;
        let vote = memory
            .synced
            .vote
            .filter(|_| memory.synced.vote == memory.state.vote);
        Ok(vote.map(Vote::from))
    }

    fn check_leader(
        &self,
        leader: LeaderIdOf<TypeConfig>,
    ) -> Result<(), LeaderBoundedStreamError<TypeConfig>> {
        let vote = self.settled_vote()?;
        if vote.is_some_and(|vote| vote.committed && vote.leader_id == leader) {
            return Ok(());
        }
        Err(LeaderChanged::new(leader, vote).into())
    }

    /// Reads on, step by step; `check` is asked before and after each.
    fn stream<E, F>(
        self,
        (start, end): (u64, u64),
        check: F,
    ) -> impl Stream<Item = Result<Entry, E>> + Send + 'static
    where
        E: From<io::Error> + Send + 'static,
        F: Fn(&Self) -> Result<(), E> + Send + Sync + 'static,
    {
        let steps = stream::unfold(Some((self, start, check)), move |state| async move {
            let (reader, start, check) = state?;
            let step = async {
                check(&reader)?;
                let entries = reader.read(start, end, READ_BYTES_MAX).await?;
                check(&reader)?;
                Ok::<_, E>(entries)
            };
            match step.await {
                Ok(entries) => {
                    let next = entries.last()?.log_id.index + 1;
                    let entries: Vec<_> = entries.into_iter().map(Ok).collect();
                    Some((entries, Some((reader, next, check))))
                }
                Err(error) => Some((vec![Err(error)], None)),
            }
        });
        steps.flat_map(stream::iter)
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (start, end) = bounds(&range);
        self.read(start, end, usize::MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.live()?.synced.vote.map(Vote::from))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, READ_BYTES_MAX).await
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.clone().stream(bounds(&range), |_| Ok(()))
    }

    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderIdOf<TypeConfig>,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, LeaderBoundedStreamError<TypeConfig>>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.clone()
            .stream(bounds(&range), move |reader| reader.check_leader(leader))
    }
}

/// A range as `[start, end)`.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

fn read_frames(frames: &[(Segment, FrameRef)]) -> Result<Vec<Entry>, LogFailure> {
    let mut entries = Vec::new();
    for (segment, frame) in frames {
        let before = entries.len() as u64;
        let mut read = read_frame(segment, frame, &mut entries);
        if read.is_ok() && entries.len() as u64 - before != frame.last - frame.first + 1 {
            read = Err(damaged("the frame does not hold the entries it should"));
        }
        read.map_err(|error| {
            let at_byte = format!("at byte {}: {error}", frame.offset);
            io::Error::new(error.kind(), at_byte)
        })
        .map_err(LogFailure::io("read", &segment.path))?;
    }
    Ok(entries)
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Reads the entries of one frame that still count: those in the reference's range.
fn read_frame(segment: &Segment, at: &FrameRef, entries: &mut Vec<Entry>) -> io::Result<()> {
    let mut bytes = vec![0; at.bytes];
    disk::read_exact_at(&*segment.file, &mut bytes, at.offset)?;
    let payload = match frame::read_header(&bytes) {
        HeaderSector::Intact(header)
            if header.sequence == at.sequence && header.frame_bytes() == at.bytes =>
        {
            header.read_payload(&bytes)
        }
        _ => None,
    };
    let payload = payload.ok_or_else(|| damaged("the frame changed since it was written"))?;
    let start = entries.len();
    for record in record::records(&payload) {
        match record.map_err(|error| damaged(error.to_string()))?.0 {
            Record::Entry(entry) => entries.push(entry),
            // What it took from earlier frames, their references say.
            Record::Truncate(after) => {
                let end = after.map_or(0, |after| after.index + 1);
                while entries.len() > start
                    && entries.last().is_some_and(|last| last.log_id.index >= end)
                {
                    entries.pop();
                }
            }
            _ => {}
        }
    }
    let counts = at.first..=at.last;
    let kept = entries.split_off(start);
    entries.extend(
        kept.into_iter()
            .filter(|entry| counts.contains(&entry.log_id.index)),
    );
    Ok(())
}
