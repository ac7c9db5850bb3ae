//! The dialed end of a connection.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use evermind_lock::command::NodeId;
use tokio::io::{AsyncRead, ReadHalf, WriteHalf, split};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::FRAME_BYTES_MAX;
use super::HANDSHAKE_FRAME_BYTES_MAX;
use super::endpoint::{Ear, Endpoint, PeerConfig};
use super::frame::{FrameError, FrameReader};
use super::handshake::{Handshake, HandshakeError};
use super::hello::Purpose;
use super::outbox::{Closed, NotQueued, Outbox};
use super::stats::PeerStats;
use super::transport::{PeerStream, Side};
use super::wire::{Kind, WireError};

/// What one purpose does with a connection that was dialed for it.
pub(super) trait Lane: Send + Sync + 'static {
    const PURPOSE: Purpose;
    /// Frames that wait to be written.
    const QUEUE_FRAMES: usize;
    /// A connection is open.
    fn open(line: Line) -> Self;
    /// A frame came.
    fn on_frame(&self, kind: Kind, body: Bytes) -> Result<(), WireError>;
    /// The connection is gone. Called once; nothing comes after.
    fn on_close(&self);
}

/// Where a lane sends.
pub(super) struct Line {
    outbox: Outbox,
    asked: Arc<Asked>,
}

/// Whether anything was asked since this was last looked at.
#[derive(Default)]
struct Asked {
    is: AtomicBool,
    became: Notify,
}

impl Asked {
    fn set(&self) {
        if !self.is.swap(true, Ordering::Relaxed) {
            self.became.notify_one();
        }
    }

    fn take(&self) -> bool {
        self.is.swap(false, Ordering::Relaxed)
    }
}

impl Line {
    /// Sends a frame that the peer answers; waits while the queue is full.
    pub(super) async fn ask(&self, frame: Vec<u8>) -> Result<(), Closed> {
        self.asked.set();
        self.outbox.send(frame).await
    }

    /// Sends a frame that the peer answers, if there is room.
    pub(super) fn try_ask(&self, frame: Vec<u8>) -> Result<(), NotQueued> {
        self.asked.set();
        self.outbox.try_send(frame)
    }
}

/// Why a peer could not be reached, or a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    #[error("its address is not known")]
    NoAddress,
    #[error("no connection within {0:?}")]
    TooSlow(std::time::Duration),
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("it broke the protocol: {0}")]
    Wire(#[from] WireError),
    #[error("cannot write: {0}")]
    Write(io::Error),
    #[error("closed by the other side")]
    Ended,
    #[error("nothing heard for {0:?}")]
    Silent(std::time::Duration),
}

/// A lane and what drives it.
pub(super) struct Dialed<L: Lane> {
    pub lane: Arc<L>,
    drive: Drive,
}

struct Drive {
    reader: FrameReader<ReadHalf<PeerStream>>,
    writer: openraft::base::BoxFuture<'static, io::Result<()>>,
    outbox: Outbox,
    asked: Arc<Asked>,
    ear: Ear,
}

/// Dials `node` and goes through the handshake.
pub(super) async fn dial<L: Lane>(
    endpoint: &Endpoint,
    node: NodeId,
) -> Result<Dialed<L>, LaneError> {
    let limit = endpoint.config.dial;
    let (reader, writer) = timeout(limit, open(endpoint, node, L::PURPOSE))
        .await
        .map_err(|_| LaneError::TooSlow(limit))??;
    PeerStats::count(&endpoint.stats().dialed);
    let ear = endpoint.ear(node);
    ear.heard(Instant::now());
    let (outbox, writer) = Outbox::new(writer, L::QUEUE_FRAMES, endpoint.config.write);
    let asked = Arc::<Asked>::default();
    let lane = Arc::new(L::open(Line {
        outbox: outbox.clone(),
        asked: asked.clone(),
    }));
    let drive = Drive {
        reader,
        writer: Box::pin(writer),
        outbox,
        asked,
        ear,
    };
    Ok(Dialed { lane, drive })
}

async fn open(
    endpoint: &Endpoint,
    node: NodeId,
    purpose: Purpose,
) -> Result<(FrameReader<ReadHalf<PeerStream>>, WriteHalf<PeerStream>), LaneError> {
    let address = endpoint.addresses.get(node).ok_or(LaneError::NoAddress)?;
    let stream = endpoint
        .connector
        .connect(address)
        .await
        .map_err(LaneError::Connect)?;
    let stream = endpoint
        .wrap
        .wrap(stream, Side::Dialer)
        .await
        .map_err(LaneError::Connect)?;
    let (reader, mut writer) = split(stream);
    let mut reader = FrameReader::new(reader, HANDSHAKE_FRAME_BYTES_MAX);
    Handshake {
        endpoint,
        reader: &mut reader,
        writer: &mut writer,
    }
    .dial(node, purpose)
    .await?;
    reader.allow(FRAME_BYTES_MAX);
    Ok((reader, writer))
}

impl<L: Lane> Dialed<L> {
    /// Moves frames until the connection ends; then, or when this is dropped, the lane is closed.
    pub(super) async fn run(self, config: &PeerConfig) -> LaneError {
        let lane = CloseOnDrop(self.lane);
        let drive = self.drive;
        let mut listener = Listener {
            reader: drive.reader,
            outbox: drive.outbox,
            asked: drive.asked,
            ear: drive.ear,
            config,
        };
        tokio::select! {
            // What comes in one piece is taken in before anything is written.
            biased;
            error = listener.listen(&*lane.0) => error,
            result = drive.writer => match result {
                Ok(()) => LaneError::Ended,
                Err(error) => LaneError::Write(error),
            },
        }
    }
}

struct CloseOnDrop<L: Lane>(Arc<L>);

impl<L: Lane> Drop for CloseOnDrop<L> {
    fn drop(&mut self) {
        self.0.on_close();
    }
}

/// Reads what comes, and notices when nothing does.
struct Listener<'a, R> {
    reader: FrameReader<R>,
    outbox: Outbox,
    asked: Arc<Asked>,
    ear: Ear,
    config: &'a PeerConfig,
}

impl<R: AsyncRead + Unpin> Listener<'_, R> {
    async fn listen<L: Lane>(&mut self, lane: &L) -> LaneError {
        let half_stall = self.config.stall / 2;
        let mut heard_at = Instant::now();
        let mut pinged = false;
        // Nothing is waited for: the peer is asked once in a while whether it is there.
        let mut idle = false;
        loop {
            let within = if idle {
                self.config.keepalive.saturating_sub(heard_at.elapsed())
            } else {
                half_stall
            };
            let next = tokio::select! {
                biased;
                next = timeout(within, self.reader.next()) => next,
                () = self.asked.became.notified(), if idle => {
                    idle = false;
                    continue;
                }
            };
            match next {
                Ok(Ok(Some(frame))) => {
                    pinged = false;
                    // One reading of the clock for everything that came in one piece.
                    if !self.reader.has_frame() {
                        heard_at = Instant::now();
                        self.ear.heard(heard_at);
                    }
                    let heard = Kind::split(frame).and_then(|(kind, body)| match kind {
                        Kind::Pong => Ok(()),
                        kind => lane.on_frame(kind, body),
                    });
                    if let Err(error) = heard {
                        return error.into();
                    }
                }
                Ok(Ok(None)) => return LaneError::Ended,
                Ok(Err(error)) => return error.into(),
                // Silence after a ping: neither the answer nor the pong came.
                Err(_) if pinged => return LaneError::Silent(self.config.stall),
                Err(_) => {
                    idle = !self.asked.take() && heard_at.elapsed() < self.config.keepalive;
                    if !idle {
                        pinged = true;
                        // Where the queue is full, what is in it serves as well.
                        let _ = self.outbox.try_send(Kind::Ping.bare());
                    }
                }
            }
        }
    }
}
