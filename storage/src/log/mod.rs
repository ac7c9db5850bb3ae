//! The Raft log: segmented, written ahead, our own.
//!
//! A log is a directory of segments, files of one length that were zero-filled before their first
//! byte. A segment holds frames ([`frame`]), a frame one batch of records ([`record`]): entries,
//! votes, truncations, purge points and committed points, in the order they were asked for. The
//! first frame of a segment repeats all that the segments before it said, so that those can go.
//!
//! # What is relied on
//! 1. The disk writes a 512-byte sector as a whole or not at all, and a sector it was not asked to
//!    write stays as it is. Frames start at a sector of their own, so a write never touches a
//!    sector that was acknowledged before. A write that a kill or an error cuts short likewise
//!    ends at a sector's edge: Linux copies whole pages.
//! 2. What an fdatasync or the fsync of a directory acknowledged stays.
//! 3. Batch N+1 is written only after the fdatasync of batch N. So there is at most one frame that
//!    nobody was promised, and it is the last.
//!
//! # What is promised
//! - A vote and a truncation are on disk when their call returns; an entry when its callback runs.
//! - The first error of any call of the disk stops the log for good ([`LogStore::failed`]):
//!   nothing is retried, nothing acknowledged any more. A full disk is such an error, an entry
//!   that no longer reads back as it was written another.
//! - A frame that cannot be read is cut on open only where it is provably torn: it is in the last
//!   segment; its header is intact, or its header's sector all zero; at least one of its sectors is
//!   all zero; and nothing non-zero lies past it. Everything else is refused, a segment of the
//!   wrong length included: [`OpenError::Damaged`].
//! - The last segment is written anew before [`LogStore::open`] returns: after a failed fsync the
//!   page cache may show what the disk never got.
//!
//! One step writes ([`writer`]); encoding is done by whoever appends. Recent entries stay decoded
//! in memory; older ones are read from disk in steps of the [`crate::runner::Runner`].

pub mod archive;
mod cache;
mod error;
mod frame;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod index;
mod memory;
mod reader;
mod record;
mod recovery;
mod segment;
mod shared;
mod store;
mod writer;

pub use error::{LogFailure, OpenError};
pub use reader::LogReader;
pub use store::{LogRecovery, LogStore};

/// The sizes of a log. [`Default`] is what a node runs with; tests use small ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes of each new segment: a multiple of 512, from 1024 to [`LogOptions::SEGMENT_BYTES_MAX`].
    pub segment_bytes: u64,
    /// The most bytes of one frame: at least 512. A segment always has room for one.
    pub frame_bytes_max: usize,
    /// The most encoded bytes of the entries kept decoded. Entries not yet on disk are always
    /// kept, and do count.
    pub cache_bytes_max: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            frame_bytes_max: 4 << 20,
            // A few seconds of full load. Decoded, an entry takes about four times its encoded bytes.
            cache_bytes_max: 4 << 20,
        }
    }
}

impl LogOptions {
    /// The longest segment: opening reads one into memory.
    pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
    /// Encoded bytes waiting to be written, above which an append waits.
    pub const QUEUE_BYTES_MAX: usize = 64 << 20;

    fn check(&self) {
        let sector = frame::SECTOR_BYTES as u64;
        assert!(
            self.segment_bytes.is_multiple_of(sector)
                && (2 * sector..=Self::SEGMENT_BYTES_MAX).contains(&self.segment_bytes),
            "a segment is a number of sectors, two at least"
        );
        assert!(
            self.frame_bytes_max >= frame::SECTOR_BYTES,
            "a frame is a sector at least"
        );
    }

    /// The most bytes of records in a frame that fits any segment beside its head.
    fn payload_bytes_max(&self) -> usize {
        let room = usize::try_from(self.segment_bytes).expect("checked") - frame::SECTOR_BYTES;
        frame::payload_bytes_max(room.min(self.frame_bytes_max))
    }
}
