//! What a peer can send: a stream cut anywhere, the words of a handshake, every message.
//!
//! The first byte of an input says what the rest is; see [`run`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use evermind_raft::peer::fuzzing::{End, framed, frames, message, word};
use evermind_raft::peer::{FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX};
use tokio::io::{AsyncRead, ReadBuf};

use crate::memory::{BELIEVED_BYTES, Memory};
use crate::runtime;

/// A whole stream.
const STREAM: u8 = 0;
/// The body of a frame of a handshake.
const WORD: u8 = 1;
/// The body of any other frame.
const MESSAGE: u8 = 2;

/// Bytes that reading may take for each byte that came. The worst that there is: an empty set of
/// voters is one byte on the wire and 24 decoded, kept twice over while a vector grows, and three
/// times over by the comparisons here.
const DECODED_PER_BYTE: usize = 200;
/// Bytes that reading may take whatever came: what a length makes it believe, and a few sets whose
/// lengths were believed too.
const DECODED_BYTES: usize = BELIEVED_BYTES + (3 << 20);

/// One input.
pub fn run(input: &[u8]) {
    let Some((what, rest)) = input.split_first() else {
        return;
    };
    let memory = Memory::watch();
    match what % 3 {
        STREAM => stream(rest),
        WORD => _ = word(rest),
        _ => _ = message(rest),
    }
    memory.at_most(DECODED_BYTES + DECODED_PER_BYTE * input.len());
}

/// The first byte says how many frames a stranger may send, the second how the stream arrives.
fn stream(input: &[u8]) {
    let [handshake, piece, bytes @ ..] = input else {
        return;
    };
    let handshake = usize::from(handshake % 4);
    let pieces = Pieces {
        left: bytes,
        step: usize::from(*piece) + 1,
        paused: false,
    };
    let mut read = Vec::new();
    let mut count = 0;
    let end = runtime::block_on(frames(pieces, handshake, |body| {
        let bound = if count < handshake {
            HANDSHAKE_FRAME_BYTES_MAX
        } else {
            FRAME_BYTES_MAX
        };
        assert!((1..=bound).contains(&body.len()));
        count += 1;
        read.extend_from_slice(&framed(body));
        word(body);
        message(body);
    }));
    let rest = bytes.strip_prefix(read.as_slice());
    let rest = rest.expect("frames come out as they went in, and in order");
    let bound = if count < handshake {
        HANDSHAKE_FRAME_BYTES_MAX
    } else {
        FRAME_BYTES_MAX
    };
    let expected = match rest.split_first_chunk::<4>() {
        None if rest.is_empty() => End::Whole,
        None => End::CutShort,
        Some((length, rest)) => {
            let length = usize::try_from(u32::from_le_bytes(*length)).expect("64 bits");
            if length == 0 || length > bound {
                End::Length
            } else {
                assert!(rest.len() < length, "a whole frame was left");
                End::CutShort
            }
        }
    };
    assert_eq!(end, expected);
}

/// A stream that arrives in pieces, with a pause before each.
struct Pieces<'a> {
    left: &'a [u8],
    step: usize,
    paused: bool,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.paused = !self.paused;
        if self.paused {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let count = self.step.min(self.left.len()).min(buffer.remaining());
        let (piece, left) = self.left.split_at(count);
        buffer.put_slice(piece);
        self.left = left;
        Poll::Ready(Ok(()))
    }
}

/// Where the corpus begins.
pub fn seeds() -> Vec<Vec<u8>> {
    let samples = evermind_raft::peer::fuzzing::samples();
    let mut seeds = Vec::new();
    for sample in &samples {
        for what in [WORD, MESSAGE] {
            let read = if what == WORD {
                word(sample)
            } else {
                message(sample)
            };
            if read {
                seeds.push([&[what], sample.as_slice()].concat());
            }
        }
    }
    let all: Vec<u8> = samples.iter().flat_map(|sample| framed(sample)).collect();
    seeds.push([&[STREAM, 2, 7], all.as_slice()].concat());
    seeds.push([&[STREAM, 0, 255], all.as_slice()].concat());
    seeds.push([&[STREAM, 1, 0], &u32::MAX.to_le_bytes()[..], &[0; 8]].concat());
    seeds
}
