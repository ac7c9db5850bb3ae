//! Which frame of which segment holds which entries.

use std::collections::VecDeque;

/// A frame that is on disk and holds entries of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameRef {
    /// The first entry in it that still counts.
    pub(super) first: u64,
    /// The last one.
    pub(super) last: u64,
    /// The segment's number.
    pub(super) segment: u64,
    /// Where in the segment, in bytes.
    pub(super) offset: u64,
    /// Its bytes on disk.
    pub(super) bytes: usize,
    /// Its sequence: a read makes sure that it found this frame.
    pub(super) sequence: u64,
    /// Bytes of frames written before it since the log was made.
    pub(super) position: u64,
}

/// What a batch does to the entries that were there before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Effect {
    /// Entries of earlier frames from this index on no longer count.
    pub(super) cut: Option<u64>,
    /// The first and last entry of this batch that count.
    pub(super) range: Option<(u64, u64)>,
}

impl Effect {
    pub(super) fn append(&mut self, index: u64) {
        self.range = Some((self.range.map_or(index, |(first, _)| first), index));
    }

    /// Entries from `index` on are gone.
    pub(super) fn cut(&mut self, index: u64) {
        self.cut = Some(self.cut.map_or(index, |cut| cut.min(index)));
        self.range = self
            .range
            .filter(|(first, _)| *first < index)
            .map(|(first, last)| (first, last.min(index - 1)));
    }

    /// Entries below `index` are gone.
    pub(super) fn purge_below(&mut self, index: u64) {
        self.range = self
            .range
            .filter(|(_, last)| *last >= index)
            .map(|(first, last)| (first.max(index), last));
    }
}

/// The frames that hold the log, in order.
#[derive(Debug, Default)]
pub(super) struct FrameIndex {
    frames: VecDeque<FrameRef>,
}

impl FrameIndex {
    /// Adds what a frame that is now on disk did. `frame`'s range is taken from `effect`.
    pub(super) fn add(&mut self, effect: &Effect, frame: FrameRef) {
        if let Some(cut) = effect.cut {
            while let Some(back) = self.frames.back_mut()
                && back.last >= cut
            {
                if back.first < cut {
                    back.last = cut - 1;
                    break;
                }
                self.frames.pop_back();
            }
        }
        if let Some((first, last)) = effect.range {
            self.frames.push_back(FrameRef {
                first,
                last,
                ..frame
            });
        }
    }

    /// Entries below `index` are gone.
    pub(super) fn purge_below(&mut self, index: u64) {
        while let Some(front) = self.frames.front_mut()
            && front.first < index
        {
            if front.last >= index {
                front.first = index;
                break;
            }
            self.frames.pop_front();
        }
    }

    /// The oldest segment that still holds an entry.
    pub(super) fn first_segment(&self) -> Option<u64> {
        self.frames.front().map(|frame| frame.segment)
    }

    /// The frames that hold entries of `[start, end)`, up to `bytes_max` bytes of them and always
    /// one if there is one; each with its range narrowed to what was asked.
    pub(super) fn find(&self, start: u64, end: u64, bytes_max: usize) -> Vec<FrameRef> {
        let from = self.frames.partition_point(|frame| frame.last < start);
        let mut found = Vec::new();
        let mut bytes = 0;
        for frame in self.frames.range(from..) {
            bytes += frame.bytes;
            if frame.first >= end || (bytes > bytes_max && !found.is_empty()) {
                break;
            }
            found.push(FrameRef {
                first: frame.first.max(start),
                last: frame.last.min(end - 1),
                ..*frame
            });
        }
        found
    }

    /// Where the first frame with an entry above `index` starts: see [`FrameRef::position`].
    pub(super) fn position_after(&self, index: u64) -> Option<u64> {
        let at = self.frames.partition_point(|frame| frame.last <= index);
        self.frames.get(at).map(|frame| frame.position)
    }
}
