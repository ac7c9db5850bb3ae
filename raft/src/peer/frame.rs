//! Frames in a stream of bytes: a length, then that many bytes.

use std::io;
use std::task::Poll;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The length prefix: `u32`, little endian.
pub(super) const PREFIX_BYTES: usize = 4;
/// A frame's buffer grows by at most this much ahead of the bytes that really arrived, so that a
/// length alone cannot make us allocate.
const READ_AHEAD_BYTES: usize = 64 << 10;

/// Why there is no next frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The prefix says more (or less) than is allowed here.
    #[error("a frame of {length} bytes where 1 to {max} are allowed")]
    Length { length: u32, max: usize },
    /// The stream ended inside a frame.
    #[error("the connection was closed within a frame")]
    CutShort,
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// After so many frames in one go, whatever shares the reader's task has its turn.
const TURN_FRAMES: usize = 128;
/// Or after so many bytes.
const TURN_BYTES: usize = 256 << 10;

/// Takes a stream of bytes apart into frames.
pub(super) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    max: usize,
    turn_frames: usize,
    turn_bytes: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Refuses frames of more than `max` bytes.
    pub(super) fn new(stream: R, max: usize) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            max,
            turn_frames: 0,
            turn_bytes: 0,
        }
    }

    /// From now on `max` bytes are allowed.
    pub(super) fn allow(&mut self, max: usize) {
        self.max = max;
    }

    /// The next frame without its prefix; `None` where the stream ends between frames.
    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        if self.turn_frames >= TURN_FRAMES || self.turn_bytes >= TURN_BYTES {
            self.turn_frames = 0;
            self.turn_bytes = 0;
            pause().await;
        }
        loop {
            let wanted = self.wanted()?;
            if self.buffer.len() >= wanted && wanted > PREFIX_BYTES {
                self.turn_frames += 1;
                self.turn_bytes += wanted;
                self.buffer.advance(PREFIX_BYTES);
                return Ok(Some(self.buffer.split_to(wanted - PREFIX_BYTES).freeze()));
            }
            self.buffer
                .reserve((wanted - self.buffer.len()).min(READ_AHEAD_BYTES));
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(FrameError::CutShort)
                };
            }
        }
    }

    /// Whether a whole frame is there already.
    pub(super) fn has_frame(&self) -> bool {
        self.wanted()
            .is_ok_and(|wanted| wanted > PREFIX_BYTES && self.buffer.len() >= wanted)
    }

    /// How many bytes the buffer needs for the next frame, prefix included, as far as is known.
    fn wanted(&self) -> Result<usize, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else {
            return Ok(PREFIX_BYTES);
        };
        let length = u32::from_le_bytes(*prefix);
        match usize::try_from(length) {
            Ok(n) if (1..=self.max).contains(&n) => Ok(PREFIX_BYTES + n),
            _ => Err(FrameError::Length {
                length,
                max: self.max,
            }),
        }
    }
}

/// Is pending once, and ready at once: what is polled beside it gets its turn.
async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Writes one frame's prefix and body into a buffer of its own.
pub(super) fn frame(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    fill(&mut out);
    // Our own frames are bounded by FRAME_BYTES_MAX: what is larger is split before it comes here.
    let length = u32::try_from(out.len() - PREFIX_BYTES).expect("a frame is far below 4 GiB");
    out[..PREFIX_BYTES].copy_from_slice(&length.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let (mut near, far) = tokio::io::duplex(7);
        let sent: Vec<Vec<u8>> = (1..300_u16)
            .map(|n| n.to_le_bytes().repeat(n.into()))
            .collect();
        let frames: Vec<_> = sent
            .iter()
            .map(|body| frame(|out| out.extend_from_slice(body)))
            .collect();
        let writer = tokio::spawn(async move { near.write_all(&frames.concat()).await });
        let mut reader = FrameReader::new(far, 1_000);
        for body in sent {
            let read = reader.next().await.expect("whole").expect("there");
            assert_eq!(read, body);
        }
        assert!(reader.next().await.expect("ended well").is_none());
        writer.await.expect("no panic").expect("written");
    }

    #[tokio::test]
    async fn a_length_out_of_bounds_is_refused_before_anything_is_allocated() {
        for length in [0, 1_001, u32::MAX] {
            let mut reader = FrameReader::new(&[0xff; 64][..], 1_000);
            reader.buffer.extend_from_slice(&length.to_le_bytes());
            let error = reader.next().await.expect_err("refused");
            assert!(matches!(error, FrameError::Length { .. }), "{error}");
            assert!(reader.buffer.capacity() <= 2 * READ_AHEAD_BYTES);
        }
    }

    #[tokio::test]
    async fn a_length_alone_allocates_little() {
        let (mut near, far) = tokio::io::duplex(64);
        let mut reader = FrameReader::new(far, 16 << 20);
        near.write_all(&(16_u32 << 20).to_le_bytes())
            .await
            .expect("room");
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(20), reader.next());
        assert!(waiting.await.is_err());
        assert!(reader.buffer.capacity() <= 2 * READ_AHEAD_BYTES);
        drop(near);
        assert!(matches!(reader.next().await, Err(FrameError::CutShort)));
    }
}
