//! What one batch of entries costs on its way to a peer: frames are made, taken apart, and read.
//!
//! The frames are no part of any public interface, so their sources are compiled in here.

#[path = "../../raft/src/peer/frame.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the rest is for connections and tests"
)]
mod frame;
#[path = "../../raft/src/peer/wire.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the rest is for connections and tests"
)]
mod wire;
#[path = "../../raft/src/peer/wire_append.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the rest is for connections and tests"
)]
mod wire_append;

/// What `wire.rs` asks of its neighbour.
mod handler {
    pub(crate) struct HandlerError(pub(crate) String);
}

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use evermind_storage::types::{Entry, LogId, TypeConfig, Vote};
use openraft::EntryPayload;
use openraft::raft::AppendEntriesRequest;

use crate::BATCH;
use crate::log::entries;
use crate::meter::{Case, Round};
use frame::FrameReader;
use wire::{Forward, ForwardRef, Kind, value};
use wire_append::{append_frames, read_append};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "peer/append_encode",
        prepare: append_encode,
    },
    Case {
        name: "peer/append_decode",
        prepare: append_decode,
    },
    Case {
        name: "peer/forward_encode",
        prepare: forward_encode,
    },
    Case {
        name: "peer/forward_decode",
        prepare: forward_decode,
    },
];

const FRAME_BYTES_MAX: usize = 16 << 20;

fn request() -> AppendEntriesRequest<TypeConfig> {
    AppendEntriesRequest {
        vote: Vote::new_committed(1, 1),
        prev_log_id: Some(LogId::new_term_index(1, 999)),
        entries: entries(1_000),
        leader_commit: Some(LogId::new_term_index(1, 998)),
    }
}

/// One frame of a whole batch.
fn append_encode() -> Round {
    let request = request();
    Box::new(move |meter| {
        let frames = meter.measure(|| append_frames(7, &request));
        assert_eq!(frames.len(), 1);
    })
}

/// The same, read from a stream.
fn append_decode() -> Round {
    let stream = append_frames(7, &request()).concat();
    Box::new(move |meter| {
        let read = meter.measure(|| {
            let mut reader = FrameReader::new(&stream[..], FRAME_BYTES_MAX);
            let (kind, body) = next(&mut reader).unwrap();
            assert_eq!(kind, Kind::Append);
            read_append(&body).unwrap()
        });
        assert_eq!(read.1.entries.len() as u64, BATCH);
    })
}

/// A frame for each command.
fn forwards(entries: &[Entry]) -> Vec<Vec<u8>> {
    let frame = |entry: &Entry| match &entry.payload {
        EntryPayload::Normal(proposal) => Kind::Forward.with(&ForwardRef {
            id: entry.log_id.index,
            command: &proposal.command,
        }),
        _ => panic!("all of them are proposals"),
    };
    entries.iter().map(frame).collect()
}

fn forward_encode() -> Round {
    let entries = entries(1);
    Box::new(move |meter| {
        let frames = meter.measure(|| forwards(&entries));
        assert_eq!(frames.len() as u64, BATCH);
    })
}

fn forward_decode() -> Round {
    let stream = forwards(&entries(1)).concat();
    Box::new(move |meter| {
        let read = meter.measure(|| {
            let mut reader = FrameReader::new(&stream[..], FRAME_BYTES_MAX);
            let mut read = Vec::new();
            while let Some((kind, body)) = next(&mut reader) {
                assert_eq!(kind, Kind::Forward);
                read.push(value::<Forward>(&body).unwrap());
            }
            read
        });
        assert_eq!(read.len() as u64, BATCH);
    })
}

/// The next frame of a stream that is all there.
fn next(reader: &mut FrameReader<&[u8]>) -> Option<(Kind, Bytes)> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(reader.next()).poll(&mut context) {
        Poll::Ready(frame) => frame.unwrap().map(|frame| Kind::split(frame).unwrap()),
        Poll::Pending => panic!("the stream is all there"),
    }
}
