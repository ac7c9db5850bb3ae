//! What a batch holds: records, one after the other.
//!
//! A record is a kind byte, its length (u32, little-endian), and that many bytes of [`codec`].

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::entry::{self, LogIdRecord, VoteRecord};
use crate::types::Entry;

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const TRUNCATE: u8 = 3;
const PURGE: u8 = 4;
const COMMITTED: u8 = 5;
const HEAD: u8 = 6;
/// Bytes before a record's body.
const PREFIX_BYTES: usize = 5;

/// The most bytes a record takes that is neither an entry nor a segment's head: kind, length,
/// version, and a few integers.
pub(super) const SMALL_RECORD_BYTES_MAX: usize = 48;

/// What the log says beside its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// The newest vote.
    pub(super) vote: Option<VoteRecord>,
    /// The newest entry known to be committed.
    pub(super) committed: Option<LogIdRecord>,
    /// Everything up to here is gone.
    pub(super) purged: Option<LogIdRecord>,
    /// The newest entry, or `purged` where there is none.
    pub(super) last: Option<LogIdRecord>,
}

impl State {
    /// The index that the next entry must have; none where the log has neither an entry nor a past.
    pub(super) fn next_index(&self) -> Option<u64> {
        self.last.map(|last| last.index + 1)
    }

    /// The lowest index that is not purged.
    pub(super) fn first_index(&self) -> u64 {
        self.purged.map_or(0, |purged| purged.index + 1)
    }

    /// The lowest index that does not exist yet, or may not be read any more.
    pub(super) fn end_index(&self) -> u64 {
        self.next_index().unwrap_or(0)
    }

    /// A point past the end takes nothing away.
    pub(super) fn truncate_after(&mut self, after: Option<LogIdRecord>) {
        if after.is_some_and(|after| after.index >= self.end_index()) {
            return;
        }
        let after = after.filter(|id| id.index >= self.first_index());
        self.last = after.or(self.purged);
    }

    /// Says whether this took anything away.
    pub(super) fn purge(&mut self, upto: LogIdRecord) -> bool {
        if upto.index < self.first_index() {
            return false;
        }
        self.purged = Some(upto);
        if self.end_index() <= upto.index {
            self.last = Some(upto);
        }
        true
    }
}

/// The first record of every segment: all that the segments before it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The number in the segment's name.
    pub(super) segment: u64,
    /// The segment's length.
    pub(super) segment_bytes: u64,
    /// Bytes of frames in the segments before it, since the log was made.
    pub(super) position: u64,
    /// As of this segment's start.
    pub(super) state: State,
}

/// One record.
#[derive(Debug)]
pub(super) enum Record {
    Entry(Entry),
    Vote(VoteRecord),
    Truncate(Option<LogIdRecord>),
    Purge(LogIdRecord),
    Committed(LogIdRecord),
    Head(Head),
}

fn put(kind: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[kind, 0, 0, 0, 0]);
    body(out);
    let length = u32::try_from(out.len() - start - PREFIX_BYTES).expect("records are bounded");
    out[start + 1..start + PREFIX_BYTES].copy_from_slice(&length.to_le_bytes());
}

pub(super) fn put_entry(value: &Entry, out: &mut Vec<u8>) {
    put(ENTRY, out, |out| entry::encode(value, out));
}

pub(super) fn put_vote(vote: &VoteRecord, out: &mut Vec<u8>) {
    put(VOTE, out, |out| codec::encode_into(vote, out));
}

pub(super) fn put_truncate(after: Option<LogIdRecord>, out: &mut Vec<u8>) {
    put(TRUNCATE, out, |out| codec::encode_into(&after, out));
}

pub(super) fn put_purge(upto: &LogIdRecord, out: &mut Vec<u8>) {
    put(PURGE, out, |out| codec::encode_into(upto, out));
}

pub(super) fn put_committed(committed: &LogIdRecord, out: &mut Vec<u8>) {
    put(COMMITTED, out, |out| codec::encode_into(committed, out));
}

pub(super) fn put_head(head: &Head, out: &mut Vec<u8>) {
    put(HEAD, out, |out| codec::encode_into(head, out));
}

/// Why a payload whose checksum holds cannot be read: written by another version, or by no one.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error("a record is cut short")]
    Short,
    #[error("a record of kind {0}, which this build does not know")]
    Kind(u8),
    #[error("a record that cannot be read: {0}")]
    Body(#[from] CodecError),
}

/// Reads a payload's records in order, each with its bytes.
pub(super) fn records(
    mut payload: &[u8],
) -> impl Iterator<Item = Result<(Record, usize), RecordError>> {
    std::iter::from_fn(move || {
        if payload.is_empty() {
            return None;
        }
        let before = payload.len();
        let record = take(&mut payload);
        if record.is_err() {
            payload = &[];
        }
        Some(record.map(|record| (record, before - payload.len())))
    })
}

fn take(payload: &mut &[u8]) -> Result<Record, RecordError> {
    let (prefix, rest) = payload
        .split_at_checked(PREFIX_BYTES)
        .ok_or(RecordError::Short)?;
    let length = u32::from_le_bytes(prefix[1..].try_into().expect("four bytes")) as usize;
    let (body, rest) = rest.split_at_checked(length).ok_or(RecordError::Short)?;
    *payload = rest;
    Ok(match prefix[0] {
        ENTRY => Record::Entry(entry::decode(body)?),
        VOTE => Record::Vote(codec::decode(body)?),
        TRUNCATE => Record::Truncate(codec::decode(body)?),
        PURGE => Record::Purge(codec::decode(body)?),
        COMMITTED => Record::Committed(codec::decode(body)?),
        HEAD => Record::Head(codec::decode(body)?),
        kind => return Err(RecordError::Kind(kind)),
    })
}
