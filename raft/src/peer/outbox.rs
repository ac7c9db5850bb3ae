//! The writing half of a connection: frames queue up, and go out together.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Frames up to this size are copied together into one write.
const COALESCE_BYTES: usize = 64 << 10;

/// Frames of replies that wait to be written.
pub(super) const REPLIES_MAX: usize = 1_024;

/// The connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

/// Why a frame was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotQueued {
    /// There is no room now.
    Full,
    /// The connection is gone.
    Closed,
}

/// Where frames are put to be sent, in order.
#[derive(Clone)]
pub(super) struct Outbox {
    frames: mpsc::Sender<Vec<u8>>,
    sent: Arc<AtomicBool>,
}

impl Outbox {
    /// The outbox for up to `frames` frames, and what empties it into `stream`: it ends with the last outbox, with the first
    /// error, or when a write moves nothing for `idle`.
    pub(super) fn new<W: AsyncWrite + Unpin>(
        stream: W,
        frames: usize,
        idle: Duration,
    ) -> (Self, impl Future<Output = io::Result<()>>) {
        let (frames, queue) = mpsc::channel(frames);
        let sent = Arc::default();
        (Self { frames, sent }, drain(stream, queue, idle))
    }

    /// Queues one frame; waits while the queue is full.
    pub(super) async fn send(&self, frame: Vec<u8>) -> Result<(), Closed> {
        self.sent.store(true, Ordering::Relaxed);
        // The common case, without the cost of a future.
        match self.frames.try_send(frame) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(frame)) => {
                self.frames.send(frame).await.map_err(|_| Closed)
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Closed),
        }
    }

    /// Whether [`send`](Self::send) was called since this was last asked.
    pub(super) fn take_sent(&self) -> bool {
        self.sent.swap(false, Ordering::Relaxed)
    }

    /// Queues one frame if there is room now.
    pub(super) fn try_send(&self, frame: Vec<u8>) -> Result<(), NotQueued> {
        self.frames.try_send(frame).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotQueued::Full,
            mpsc::error::TrySendError::Closed(_) => NotQueued::Closed,
        })
    }
}

async fn drain<W: AsyncWrite + Unpin>(
    mut stream: W,
    mut frames: mpsc::Receiver<Vec<u8>>,
    idle: Duration,
) -> io::Result<()> {
    let mut batch = Vec::new();
    while let Some(frame) = frames.recv().await {
        let mut next = Some(frame);
        while let Some(frame) = next {
            if batch.len() + frame.len() > COALESCE_BYTES {
                write(&mut stream, &batch, idle).await?;
                batch.clear();
            }
            if frame.len() > COALESCE_BYTES {
                write(&mut stream, &frame, idle).await?;
            } else {
                batch.extend_from_slice(&frame);
            }
            next = frames.try_recv().ok();
        }
        write(&mut stream, &batch, idle).await?;
        batch.clear();
        timeout(idle, stream.flush()).await??;
    }
    stream.shutdown().await
}

/// Bounds each step, not the whole: a slow line may take its time as long as something moves.
async fn write<W: AsyncWrite + Unpin>(
    stream: &mut W,
    mut bytes: &[u8],
    idle: Duration,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = timeout(idle, stream.write(bytes)).await??;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[n..];
    }
    Ok(())
}
