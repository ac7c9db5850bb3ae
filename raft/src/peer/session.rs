//! The accepted end of a connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use evermind_lock::command::NodeId;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::endpoint::{Contact, Ear, PeerConfig};
use super::frame::{FrameError, FrameReader};
use super::handler::{ForwardReply, PeerHandler};
use super::hello::Purpose;
use super::origin::{check_command, check_vote};
use super::outbox::{Outbox, REPLIES_MAX};
use super::transport::PeerStream;
use super::wire::{
    Answer, AnswerFrame, Call, CallFrame, Forward, ForwardVerdict, Forwarded, Kind, WireError,
    value,
};
use super::wire_append::read_append;
use super::{CALLS_IN_FLIGHT_MAX, FORWARDS_IN_FLIGHT_MAX, session_append, session_snapshot};

/// A connection whose peer is known.
pub(super) struct Session {
    pub config: PeerConfig,
    pub contact: Contact,
    pub reader: FrameReader<ReadHalf<PeerStream>>,
    pub writer: WriteHalf<PeerStream>,
    pub ear: Ear,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("cannot write: {0}")]
    Write(io::Error),
    #[error("nothing heard for {0:?}")]
    Idle(Duration),
}

/// Serves the peer until it goes. Reading, handling and writing are one task: dropping the returned
/// future drops everything that the peer asked for.
pub(super) async fn run(
    session: Session,
    purpose: Purpose,
    handler: &Arc<dyn PeerHandler>,
) -> Result<(), SessionError> {
    let Session {
        config,
        contact,
        reader,
        writer,
        ear,
    } = session;
    let from = contact.node;
    let (outbox, writer) = Outbox::new(writer, REPLIES_MAX, config.write);
    let read = Reader {
        frames: reader,
        ear,
        idle: config.idle,
        say: config.stall / 4,
        outbox: outbox.clone(),
    };
    match purpose {
        Purpose::Control => {
            let (calls, queue) = mpsc::channel(CALLS_IN_FLIGHT_MAX);
            let read = read.run(move |kind, body| match kind {
                Kind::Call => put(&calls, read_call(from, &body)?),
                other => Err(WireError::OutOfPlace(other)),
            });
            drive(read, control(from, &**handler, queue, outbox), writer).await
        }
        Purpose::Forward => {
            let (forwards, queue) = mpsc::channel(FORWARDS_IN_FLIGHT_MAX);
            let read = read.run(move |kind, body| match kind {
                Kind::Forward => put(&forwards, value::<Forward>(&body)?),
                other => Err(WireError::OutOfPlace(other)),
            });
            drive(read, forward(&contact, &**handler, queue, outbox), writer).await
        }
        Purpose::Append => {
            let (requests, queue) = session_append::queue(from);
            let read = read.run(move |kind, body| match kind {
                Kind::Append => requests.put(&body),
                other => Err(WireError::OutOfPlace(other)),
            });
            drive(
                read,
                session_append::work(from, &**handler, queue, outbox),
                writer,
            )
            .await
        }
        Purpose::Snapshot => {
            let (pieces, queue) = session_snapshot::queue();
            let read =
                read.run(move |kind, body| put(&pieces, session_snapshot::read(kind, body)?));
            let idle = config.snapshot_idle;
            let work = session_snapshot::work(from, &**handler, queue, outbox, idle);
            drive(read, work, writer).await
        }
    }
}

async fn drive(
    read: impl Future<Output = Result<(), SessionError>>,
    work: impl Future<Output = ()>,
    write: impl Future<Output = io::Result<()>>,
) -> Result<(), SessionError> {
    // The work ends before the connection does only where it has nothing more to do; what it sent
    // still has to be written, so the reader's end decides.
    let work = async {
        work.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        // What comes in one piece is read, handled and answered in one go.
        biased;
        ended = read => ended,
        () = work => Ok(()),
        result = write => result.map_err(SessionError::Write),
    }
}

/// A call that is the sender's own: a candidate asks for itself, and a leader hands over its own
/// office.
fn read_call(from: NodeId, body: &[u8]) -> Result<CallFrame, WireError> {
    let frame: CallFrame = value(body)?;
    let vote = match &frame.call {
        Call::Vote(ballot) | Call::PreVote(ballot) => Some(ballot.vote),
        Call::TransferLeader { from, .. } => Some(*from),
        // Read where it is handled.
        Call::Append(_) | Call::ReadIndex => None,
    };
    if let Some(vote) = vote {
        check_vote(from, &vote.into()).map_err(WireError::NotItsOwn)?;
    }
    Ok(frame)
}

/// What a well-behaved peer sends never finds the queue full.
fn put<T>(queue: &mpsc::Sender<T>, item: T) -> Result<(), WireError> {
    queue.try_send(item).map_err(|_| WireError::TooMuch)
}

struct Reader {
    frames: FrameReader<ReadHalf<PeerStream>>,
    ear: Ear,
    idle: Duration,
    /// How often to say that we are there.
    say: Duration,
    outbox: Outbox,
}

impl Reader {
    /// Never waits for the work, so that pings are answered however busy that is.
    async fn run(
        mut self,
        on: impl Fn(Kind, Bytes) -> Result<(), WireError>,
    ) -> Result<(), SessionError> {
        let mut said_at = Instant::now();
        loop {
            let frame = timeout(self.idle, self.frames.next())
                .await
                .map_err(|_| SessionError::Idle(self.idle))??;
            let Some(frame) = frame else {
                return Ok(());
            };
            if !self.frames.has_frame() {
                let now = Instant::now();
                self.ear.heard(now);
                // A ping may be far behind in what the peer has sent: as long as that is being
                // read, the peer is told without being asked, where no reply tells it.
                let silent = now - said_at;
                if silent >= self.say {
                    said_at = now;
                    // A reply that is further back than that tells nothing of now.
                    let told = self.outbox.take_sent() && silent < 2 * self.say;
                    if !told {
                        let _ = self.outbox.try_send(Kind::Pong.bare());
                    }
                }
            }
            match Kind::split(frame)? {
                (Kind::Ping, _) => {
                    // Where the queue is full, what is in it serves as well.
                    let _ = self.outbox.try_send(Kind::Pong.bare());
                }
                (kind, body) => on(kind, body)?,
            }
        }
    }
}

/// Answers calls, all at once, each when it is done.
async fn control(
    from: NodeId,
    handler: &dyn PeerHandler,
    mut calls: mpsc::Receiver<CallFrame>,
    outbox: Outbox,
) {
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(answer) = open.next() => {
                if outbox.send(Kind::Answer.with(&answer)).await.is_err() {
                    return;
                }
            }
            call = calls.recv(), if open.len() < CALLS_IN_FLIGHT_MAX => {
                let Some(CallFrame { id, call }) = call else { return };
                open.push(async move {
                    let answer = answer(from, handler, call).await;
                    AnswerFrame { id, answer }
                });
            }
        }
    }
}

async fn answer(from: NodeId, handler: &dyn PeerHandler, call: Call) -> Answer {
    let answered = match call {
        Call::Append(body) => match read_append(&body) {
            Ok((_, request)) => match check_vote(from, &request.vote) {
                Ok(()) => handler.append_one(request).await.map(Answer::from),
                Err(why) => return Answer::Failed(WireError::NotItsOwn(why).to_string()),
            },
            Err(error) => return Answer::Failed(error.to_string()),
        },
        Call::Vote(ballot) => handler.vote(ballot.into()).await.map(Answer::from),
        Call::PreVote(ballot) => handler.pre_vote(ballot.into()).await.map(Answer::from),
        Call::TransferLeader { from, to, last } => {
            let request =
                openraft::raft::TransferLeaderRequest::new(from.into(), to, last.map(Into::into));
            let answered = handler.transfer_leader(request).await;
            answered.map(|answer| Answer::TransferLeader(answer.into()))
        }
        Call::ReadIndex => {
            let index = handler.read_index(from).await;
            Ok(Answer::ReadIndex(
                index.map(Into::into).map_err(|not| not.leader),
            ))
        }
    };
    answered.unwrap_or_else(|error| Answer::failed(&error))
}

/// Hands commands over one after the other: their order is the origin's.
async fn forward(
    from: &Contact,
    handler: &dyn PeerHandler,
    mut forwards: mpsc::Receiver<Forward>,
    outbox: Outbox,
) {
    while let Some(Forward { id, command }) = forwards.recv().await {
        let verdict = match check_command(from, &command) {
            Ok(()) => match handler.forward(from.node, command).await {
                ForwardReply::Accepted => ForwardVerdict::Accepted,
                ForwardReply::NotLeader { leader } => ForwardVerdict::NotLeader(leader),
            },
            // What the peer itself has sent goes on: it may not be the one who sent this.
            Err(why) => {
                handler.forged(from.node, why);
                ForwardVerdict::NotLeader(None)
            }
        };
        let reply = Kind::Forwarded.with(&Forwarded { id, verdict });
        if outbox.send(reply).await.is_err() {
            return;
        }
    }
}
