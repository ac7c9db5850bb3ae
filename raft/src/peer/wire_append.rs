//! The append frame, laid out by hand because its entries are encoded one by one: `stream: u64`, the
//! head's length as `u32`, the head, then each entry's length as `u32` and its bytes. Little endian.

use bytes::Buf;
use evermind_storage::codec::{self, CodecError};
use evermind_storage::entry::{self, LogIdRecord, VoteRecord};
use evermind_storage::types::{Entry, LogId, TypeConfig};
use openraft::raft::AppendEntriesRequest;
use serde::{Deserialize, Serialize};

use super::frame::frame;
use super::wire::{Kind, WireError};

/// An append is cut into several where it would be longer: far below the largest frame, so that a
/// single entry more never passes that.
const APPEND_BYTES: usize = 4 << 20;

#[derive(Serialize, Deserialize)]
struct AppendHead {
    vote: VoteRecord,
    prev: Option<LogIdRecord>,
    commit: Option<LogIdRecord>,
    entries: u32,
}

/// The frames of one append request: one, unless it is too long for that. Each is a request of its
/// own that goes on where the one before it ends.
pub(super) fn append_frames(
    stream: u64,
    request: &AppendEntriesRequest<TypeConfig>,
) -> Vec<Vec<u8>> {
    let mut frames = Vec::with_capacity(1);
    let mut rest = request.entries.as_slice();
    let mut prev = request.prev_log_id;
    loop {
        let mut entries = Vec::new();
        let mut taken = 0;
        while taken < rest.len() && entries.len() < APPEND_BYTES {
            put_entry(&rest[taken], &mut entries);
            taken += 1;
        }
        frames.push(frame(|out| {
            out.reserve(entries.len() + 64);
            out.push(Kind::Append as u8);
            put_append(stream, request, prev, taken, &entries, out);
        }));
        prev = rest[..taken].last().map(|e| e.log_id).or(prev);
        rest = &rest[taken..];
        if rest.is_empty() {
            return frames;
        }
    }
}

/// One append request as the body of an append frame, for a call.
pub(super) fn append_body(request: &AppendEntriesRequest<TypeConfig>) -> Vec<u8> {
    let mut entries = Vec::new();
    for entry in &request.entries {
        put_entry(entry, &mut entries);
    }
    let mut out = Vec::with_capacity(entries.len() + 64);
    let (prev, count) = (request.prev_log_id, request.entries.len());
    put_append(0, request, prev, count, &entries, &mut out);
    out
}

fn put_entry(entry: &Entry, out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    entry::encode(entry, out);
    let length = u32::try_from(out.len() - at - 4).expect("an entry is far below 4 GiB");
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

fn put_append(
    stream: u64,
    request: &AppendEntriesRequest<TypeConfig>,
    prev: Option<LogId>,
    count: usize,
    entries: &[u8],
    out: &mut Vec<u8>,
) {
    let head = codec::encode(&AppendHead {
        vote: request.vote.into(),
        prev: prev.map(Into::into),
        commit: request.leader_commit.map(Into::into),
        entries: u32::try_from(count).expect("entries of one frame"),
    });
    out.extend_from_slice(&stream.to_le_bytes());
    out.extend_from_slice(
        &u32::try_from(head.len())
            .expect("a small head")
            .to_le_bytes(),
    );
    out.extend_from_slice(&head);
    out.extend_from_slice(entries);
}

/// Reads the body of an append frame: which stream, and the request.
pub(super) fn read_append(
    mut body: &[u8],
) -> Result<(u64, AppendEntriesRequest<TypeConfig>), WireError> {
    let stream = body.try_get_u64_le().map_err(|_| WireError::Short)?;
    let head: AppendHead = codec::decode(take(&mut body)?)?;
    // An entry has at least its length: a count alone cannot make us allocate.
    let count = usize::try_from(head.entries).map_err(|_| WireError::Short)?;
    if count > body.len() / 4 {
        return Err(WireError::Short);
    }
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.push(entry::decode(take(&mut body)?)?);
    }
    if !body.is_empty() {
        return Err(CodecError::Trailing(body.len()).into());
    }
    let request = AppendEntriesRequest {
        vote: head.vote.into(),
        prev_log_id: head.prev.map(Into::into),
        entries,
        leader_commit: head.commit.map(Into::into),
    };
    Ok((stream, request))
}

/// Takes what follows its own length.
fn take<'a>(body: &mut &'a [u8]) -> Result<&'a [u8], WireError> {
    let length = body.try_get_u32_le().map_err(|_| WireError::Short)?;
    let length = usize::try_from(length).map_err(|_| WireError::Short)?;
    body.split_off(..length).ok_or(WireError::Short)
}

#[cfg(test)]
mod tests {
    use evermind_storage::types::Vote;
    use openraft::EntryPayload;

    use super::*;

    fn request() -> AppendEntriesRequest<TypeConfig> {
        AppendEntriesRequest {
            vote: Vote::new_committed(3, 1),
            prev_log_id: Some(LogId::new_term_index(2, 9)),
            entries: vec![Entry {
                log_id: LogId::new_term_index(3, 10),
                payload: EntryPayload::Blank,
            }],
            leader_commit: None,
        }
    }

    #[test]
    fn the_bytes_of_an_append_never_change() {
        let frames = append_frames(5, &request());
        let expected: &[u8] = &[
            30, 0, 0, 0, // length
            5, // an append
            5, 0, 0, 0, 0, 0, 0, 0, // stream
            9, 0, 0, 0, // length of the head
            4, 3, 1, 1, 1, 2, 9, 0, 1, // version, vote, previous, commit, count
            4, 0, 0, 0, // length of the entry
            4, 3, 10, 0, // version, term, index, blank
        ];
        assert_eq!(frames, [expected]);
    }

    #[test]
    fn an_append_comes_back_as_it_was_and_cut_short_it_does_not() {
        let body = append_body(&request());
        let (stream, read) = read_append(&body).expect("whole");
        assert_eq!(stream, 0);
        assert_eq!(format!("{read:?}"), format!("{:?}", request()));
        for end in 0..body.len() {
            assert!(read_append(&body[..end]).is_err(), "{end} bytes");
        }
    }
}
