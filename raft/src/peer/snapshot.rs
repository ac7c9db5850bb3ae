//! Sending a snapshot, on a connection made for it.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use evermind_lock::command::NodeId;
use evermind_storage::types::{SnapshotMeta, Vote};
use openraft::base::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::endpoint::Endpoint;
use super::hello::Purpose;
use super::lane::{Lane, LaneError, Line, dial};
use super::wire::{Kind, SnapshotBegin, SnapshotReply, WireError, snapshot_chunk, value};
use super::{SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_CHUNKS_IN_FLIGHT_MAX};

/// Replies that wait to be read: more than are ever due at once.
const REPLIES_MAX: usize = 64;

/// A snapshot that can be sent.
pub trait SnapshotSource: Send + Sync + 'static {
    /// Its length, in bytes. Does not change.
    fn byte_len(&self) -> u64;
    /// Reads up to `max` bytes at an offset, off the async threads; empty only at the end.
    fn read(&self, offset: u64, max: usize) -> BoxFuture<'_, io::Result<Bytes>>;
}

/// Why a snapshot was not installed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error(transparent)]
    Unreachable(#[from] LaneError),
    #[error("the connection was lost")]
    Lost,
    #[error("no progress for {0:?}")]
    Idle(Duration),
    #[error("it failed over there: {0}")]
    Failed(String),
    #[error("cannot read the snapshot: {0}")]
    Read(io::Error),
}

/// The dialed end of a snapshot connection.
struct Snapshots {
    line: Line,
    replies: mpsc::Sender<SnapshotReply>,
    inbox: Mutex<Option<mpsc::Receiver<SnapshotReply>>>,
}

impl Lane for Snapshots {
    const PURPOSE: Purpose = Purpose::Snapshot;
    const QUEUE_FRAMES: usize = 2 * SNAPSHOT_CHUNKS_IN_FLIGHT_MAX;

    fn open(line: Line) -> Self {
        let (replies, inbox) = mpsc::channel(REPLIES_MAX);
        Self {
            line,
            replies,
            inbox: Mutex::new(Some(inbox)),
        }
    }

    fn on_frame(&self, kind: Kind, body: Bytes) -> Result<(), WireError> {
        if kind != Kind::SnapshotReply {
            return Err(WireError::OutOfPlace(kind));
        }
        self.replies
            .try_send(value(&body)?)
            .map_err(|_| WireError::TooMuch)
    }

    fn on_close(&self) {}
}

/// Sends a snapshot and waits until it is installed; the answer is the receiver's vote. Dropped, it
/// closes the connection, and the receiver forgets what it has.
pub(super) async fn send<S: SnapshotSource>(
    endpoint: &Endpoint,
    node: NodeId,
    (vote, meta, source): (Vote, SnapshotMeta, S),
    idle: Duration,
) -> Result<Vote, SendError> {
    let dialed = dial::<Snapshots>(endpoint, node).await?;
    let lane = dialed.lane.clone();
    let inbox = lane
        .inbox
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let transfer = Transfer {
        line: &lane.line,
        inbox: inbox.ok_or(SendError::Lost)?,
        source,
        idle,
    };
    tokio::select! {
        // Where the last reply and the end of the connection come together, the reply counts.
        biased;
        result = transfer.run(vote, &meta) => result,
        error = dialed.run(&endpoint.config) => {
            tracing::debug!(node, %error, "snapshot connection lost");
            Err(SendError::Lost)
        }
    }
}

struct Transfer<'a, S> {
    line: &'a Line,
    inbox: mpsc::Receiver<SnapshotReply>,
    source: S,
    idle: Duration,
}

impl<S: SnapshotSource> Transfer<'_, S> {
    async fn run(mut self, vote: Vote, meta: &SnapshotMeta) -> Result<Vote, SendError> {
        let bytes = self.source.byte_len();
        let begin = SnapshotBegin::new(vote, meta, bytes);
        self.tell(Kind::SnapshotBegin.with(&begin)).await?;
        let window = (SNAPSHOT_CHUNKS_IN_FLIGHT_MAX * SNAPSHOT_CHUNK_BYTES_MAX) as u64;
        let (mut sent, mut received) = (0, 0);
        while sent < bytes {
            if sent - received >= window {
                match self.reply().await? {
                    SnapshotReply::Received(n) if (received + 1..=sent).contains(&n) => {
                        received = n;
                    }
                    other => return done(other),
                }
                continue;
            }
            let chunk = self.read(sent).await?;
            self.tell(snapshot_chunk(sent, &chunk)).await?;
            sent += chunk.len() as u64;
        }
        self.tell(Kind::SnapshotEnd.bare()).await?;
        loop {
            match self.reply().await? {
                SnapshotReply::Received(_) | SnapshotReply::Installing => {}
                other => return done(other),
            }
        }
    }

    async fn read(&self, offset: u64) -> Result<Bytes, SendError> {
        let read = self.source.read(offset, SNAPSHOT_CHUNK_BYTES_MAX);
        let chunk = timeout(self.idle, read)
            .await
            .map_err(|_| SendError::Idle(self.idle))?
            .map_err(SendError::Read)?;
        if chunk.is_empty() || chunk.len() > SNAPSHOT_CHUNK_BYTES_MAX {
            return Err(SendError::Read(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(chunk)
    }

    async fn tell(&self, frame: Vec<u8>) -> Result<(), SendError> {
        self.line.ask(frame).await.map_err(|_| SendError::Lost)
    }

    async fn reply(&mut self) -> Result<SnapshotReply, SendError> {
        timeout(self.idle, self.inbox.recv())
            .await
            .map_err(|_| SendError::Idle(self.idle))?
            .ok_or(SendError::Lost)
    }
}

fn done(reply: SnapshotReply) -> Result<Vote, SendError> {
    match reply {
        SnapshotReply::Done(vote) => Ok(vote.into()),
        SnapshotReply::Failed(reason) => Err(SendError::Failed(reason)),
        SnapshotReply::Received(_) | SnapshotReply::Installing => {
            Err(SendError::Failed("it answers out of turn".into()))
        }
    }
}
