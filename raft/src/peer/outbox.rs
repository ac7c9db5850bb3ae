//! The writing half of a connection: frames queue up, and go out together.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Frames that wait to be written.
const QUEUE_FRAMES: usize = 1_024;
/// Frames up to this size are copied together into one write.
const COALESCE_BYTES: usize = 64 << 10;

/// The connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

/// Where frames are put to be sent, in order.
#[derive(Clone)]
pub(super) struct Outbox(mpsc::Sender<Vec<u8>>);

impl Outbox {
    /// The outbox, and what empties it into `stream`: it ends with the last outbox, with the first
    /// error, or when a write moves nothing for `idle`.
    pub(super) fn new<W: AsyncWrite + Unpin>(
        stream: W,
        idle: Duration,
    ) -> (Self, impl Future<Output = io::Result<()>>) {
        let (sender, frames) = mpsc::channel(QUEUE_FRAMES);
        (Self(sender), drain(stream, frames, idle))
    }

    /// Queues one frame; waits while the queue is full.
    pub(super) async fn send(&self, frame: Vec<u8>) -> Result<(), Closed> {
        // The common case, without the cost of a future.
        match self.0.try_send(frame) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(frame)) => {
                self.0.send(frame).await.map_err(|_| Closed)
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Closed),
        }
    }

    /// Queues one frame if there is room now.
    pub(super) fn try_send(&self, frame: Vec<u8>) -> bool {
        self.0.try_send(frame).is_ok()
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
