//! Receiving a snapshot.

use std::time::Duration;

use bytes::Bytes;
use evermind_lock::command::NodeId;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at};

use super::handler::{HandlerError, PeerHandler};
use super::origin::check_vote;
use super::outbox::Outbox;
use super::wire::{
    Kind, SnapshotBegin, SnapshotReply, WireError, read_snapshot_chunk, reason, value,
};
use super::{SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_CHUNKS_IN_FLIGHT_MAX};

/// While a snapshot is installed, the sender is told that often.
const INSTALLING_EVERY: Duration = Duration::from_secs(5);

/// One piece of a snapshot's way.
pub(super) enum Piece {
    Begin(SnapshotBegin),
    Chunk(u64, Bytes),
    End,
}

/// A queue for what a well-behaved peer may have in flight: the chunks, the begin, the end.
pub(super) fn queue() -> (mpsc::Sender<Piece>, mpsc::Receiver<Piece>) {
    mpsc::channel(SNAPSHOT_CHUNKS_IN_FLIGHT_MAX + 2)
}

/// Reads a frame.
pub(super) fn read(kind: Kind, body: Bytes) -> Result<Piece, WireError> {
    match kind {
        Kind::SnapshotBegin => Ok(Piece::Begin(value(&body)?)),
        Kind::SnapshotEnd => Ok(Piece::End),
        Kind::SnapshotChunk => {
            let (offset, bytes) = read_snapshot_chunk(body)?;
            if bytes.len() > SNAPSHOT_CHUNK_BYTES_MAX {
                return Err(WireError::TooMuch);
            }
            Ok(Piece::Chunk(offset, bytes))
        }
        other => Err(WireError::OutOfPlace(other)),
    }
}

/// Receives one snapshot and answers.
pub(super) async fn work(
    from: NodeId,
    handler: &dyn PeerHandler,
    pieces: mpsc::Receiver<Piece>,
    outbox: Outbox,
    idle: Duration,
) {
    let reply = match receive(from, handler, pieces, &outbox, idle).await {
        Ok(reply) => reply,
        Err(error) => {
            tracing::warn!(node = from, %error, "snapshot not received");
            SnapshotReply::Failed(reason(&error.0))
        }
    };
    let _ = outbox.send(Kind::SnapshotReply.with(&reply)).await;
}

async fn receive(
    from: NodeId,
    handler: &dyn PeerHandler,
    mut pieces: mpsc::Receiver<Piece>,
    outbox: &Outbox,
    idle: Duration,
) -> Result<SnapshotReply, HandlerError> {
    let Piece::Begin(begin) = next(&mut pieces, idle).await? else {
        return Err(HandlerError("it does not begin".into()));
    };
    let bytes = begin.bytes;
    let (vote, meta) = begin.into_parts();
    check_vote(from, &vote).map_err(|why| HandlerError(WireError::NotItsOwn(why).to_string()))?;
    let io = |error: std::io::Error| HandlerError(error.to_string());
    let mut sink = handler.begin_snapshot(from, bytes).await.map_err(io)?;
    let mut received = 0;
    loop {
        match next(&mut pieces, idle).await? {
            Piece::Chunk(offset, chunk) if offset == received => {
                received += chunk.len() as u64;
                if received > bytes {
                    return Err(HandlerError(format!("more than the {bytes} bytes it has")));
                }
                sink.write(chunk).await.map_err(io)?;
                let reply = SnapshotReply::Received(received);
                if outbox.send(Kind::SnapshotReply.with(&reply)).await.is_err() {
                    return Err(HandlerError("the connection was lost".into()));
                }
            }
            Piece::End if received == bytes => break,
            Piece::End => {
                return Err(HandlerError(format!("{received} of {bytes} bytes came")));
            }
            Piece::Chunk(offset, _) => {
                return Err(HandlerError(format!(
                    "bytes {offset} after byte {received}"
                )));
            }
            Piece::Begin(_) => return Err(HandlerError("it begins twice".into())),
        }
    }
    let mut install = sink.finish(vote, meta);
    let mut installing = interval_at(Instant::now() + INSTALLING_EVERY, INSTALLING_EVERY);
    loop {
        tokio::select! {
            biased;
            installed = &mut install => {
                return installed.map(|response| SnapshotReply::Done(response.vote.into()));
            }
            _ = installing.tick() => {
                let _ = outbox.try_send(Kind::SnapshotReply.with(&SnapshotReply::Installing));
            }
        }
    }
}

async fn next(pieces: &mut mpsc::Receiver<Piece>, idle: Duration) -> Result<Piece, HandlerError> {
    tokio::time::timeout(idle, pieces.recv())
        .await
        .map_err(|_| HandlerError(format!("no progress for {idle:?}")))?
        .ok_or_else(|| HandlerError("the connection was lost".into()))
}
