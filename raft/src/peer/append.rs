//! The append connection: requests are pipelined, and each gets one reply, in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use evermind_storage::types::{LogId, TypeConfig, Vote};
use futures_util::{Stream, StreamExt};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use super::hello::Purpose;
use super::lane::{Lane, Line};
use super::wire::{AppendReply, AppendResult, Kind, WireError, value};
use super::wire_append::append_frames;
use super::{APPEND_BYTES_IN_FLIGHT_MAX, APPENDS_IN_FLIGHT_MAX};

/// The dialed end of an append connection. Streams follow each other on it; the replies to one that
/// was dropped are thrown away as they come.
pub(super) struct Appends {
    line: Line,
    requests: Arc<Semaphore>,
    kibibytes: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_stream: u64,
    streams: BTreeMap<u64, mpsc::UnboundedSender<AppendResult>>,
    in_flight: VecDeque<InFlight>,
    closed: bool,
}

struct InFlight {
    stream: u64,
    _request: OwnedSemaphorePermit,
    _kibibytes: OwnedSemaphorePermit,
}

/// Why a stream ended before its input did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AppendError {
    #[error("the connection was lost")]
    Lost,
    #[error("no reply for {0:?}")]
    Idle(Duration),
    #[error("{0}")]
    Failed(String),
}

impl Appends {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `input`, as far as the window allows, whenever the returned stream is polled, and
    /// yields the replies in order. Ends with the input, with the first reply that is no success,
    /// or with an error; where no reply comes for `idle` although requests are out, that is one.
    pub(super) fn stream<S>(
        self: Arc<Self>,
        input: S,
        idle: Duration,
    ) -> impl Stream<Item = Result<StreamAppendResult<TypeConfig>, AppendError>> + Send + 'static
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let (sender, replies) = mpsc::unbounded_channel();
        let mut state = self.state();
        state.next_stream += 1;
        let stream = state.next_stream;
        // On a connection that is gone the sender is dropped here, which ends the stream.
        if !state.closed {
            state.streams.insert(stream, sender);
        }
        drop(state);
        let pump = Pump {
            lane: self,
            stream,
            replies,
            input: Some(input),
            unsent: VecDeque::new(),
            permit: None,
            outstanding: 0,
            progress: Instant::now(),
            idle,
        };
        futures_util::stream::unfold(Some(pump), |pump| async move {
            let mut pump = pump?;
            let reply = pump.next().await?;
            let goes_on = matches!(reply, Ok(Ok(_)));
            Some((reply, goes_on.then_some(pump)))
        })
    }
}

impl Lane for Appends {
    const PURPOSE: Purpose = Purpose::Append;
    const QUEUE_FRAMES: usize = 2 * APPENDS_IN_FLIGHT_MAX;

    fn open(line: Line) -> Self {
        Self {
            line,
            requests: Arc::new(Semaphore::new(APPENDS_IN_FLIGHT_MAX)),
            kibibytes: Arc::new(Semaphore::new(APPEND_BYTES_IN_FLIGHT_MAX >> 10)),
            state: Mutex::default(),
        }
    }

    fn on_frame(&self, kind: Kind, body: Bytes) -> Result<(), WireError> {
        if kind != Kind::AppendReply {
            return Err(WireError::OutOfPlace(kind));
        }
        let reply: AppendReply = value(&body)?;
        let mut state = self.state();
        match state.in_flight.pop_front() {
            Some(in_flight) if in_flight.stream == reply.stream => {}
            _ => return Err(WireError::OutOfPlace(kind)),
        }
        if let Some(stream) = state.streams.get(&reply.stream) {
            let _ = stream.send(reply.result);
        }
        Ok(())
    }

    fn on_close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.streams.clear();
        state.in_flight.clear();
        drop(state);
        self.requests.close();
        self.kibibytes.close();
    }
}

/// One stream of requests on its way.
struct Pump<S> {
    lane: Arc<Appends>,
    stream: u64,
    replies: mpsc::UnboundedReceiver<AppendResult>,
    /// Gone when it has ended.
    input: Option<S>,
    /// Frames of a request that was cut into several.
    unsent: VecDeque<Vec<u8>>,
    /// The right to send one frame.
    permit: Option<OwnedSemaphorePermit>,
    /// Frames without a reply.
    outstanding: usize,
    /// When a reply last came, or the first of the outstanding was sent.
    progress: Instant,
    idle: Duration,
}

type Reply = Result<StreamAppendResult<TypeConfig>, AppendError>;

impl<S> Pump<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    async fn next(&mut self) -> Option<Reply> {
        loop {
            if self.input.is_none() && self.unsent.is_empty() && self.outstanding == 0 {
                return None;
            }
            let more = self.input.is_some() || !self.unsent.is_empty();
            let requests = self.lane.requests.clone();
            tokio::select! {
                biased;
                reply = self.replies.recv() => {
                    let Some(reply) = reply else {
                        return Some(Err(AppendError::Lost));
                    };
                    self.outstanding -= 1;
                    self.progress = Instant::now();
                    return Some(read(reply));
                }
                permit = requests.acquire_owned(), if more && self.permit.is_none() => {
                    let Ok(permit) = permit else {
                        return Some(Err(AppendError::Lost));
                    };
                    self.permit = Some(permit);
                }
                request = next(self.input.as_mut()),
                    if self.unsent.is_empty() && self.permit.is_some() && self.input.is_some() =>
                {
                    match request {
                        Some(request) => {
                            // Word of a commit: whoever waits here for what was committed is
                            // answered first.
                            if request.entries.is_empty() {
                                tokio::task::yield_now().await;
                            }
                            self.unsent.extend(append_frames(self.stream, &request));
                        }
                        None => self.input = None,
                    }
                }
                () = sleep_until(self.progress + self.idle), if self.outstanding > 0 => {
                    return Some(Err(AppendError::Idle(self.idle)));
                }
            }
            if let Err(error) = self.send().await {
                return Some(Err(error));
            }
        }
    }

    /// Sends the next frame, if there is one and it may go.
    async fn send(&mut self) -> Result<(), AppendError> {
        if self.permit.is_none() {
            return Ok(());
        }
        let Some(frame) = self.unsent.front() else {
            return Ok(());
        };
        let kibibytes = frame
            .len()
            .div_ceil(1 << 10)
            .min(APPEND_BYTES_IN_FLIGHT_MAX >> 10);
        let kibibytes = u32::try_from(kibibytes).expect("bounded above");
        let bytes = self.lane.kibibytes.clone().acquire_many_owned(kibibytes);
        let bytes = timeout(self.idle, bytes)
            .await
            .map_err(|_| AppendError::Idle(self.idle))?
            .map_err(|_| AppendError::Lost)?;
        let (Some(request), Some(frame)) = (self.permit.take(), self.unsent.pop_front()) else {
            return Ok(());
        };
        let mut state = self.lane.state();
        state.in_flight.push_back(InFlight {
            stream: self.stream,
            _request: request,
            _kibibytes: bytes,
        });
        // Under the lock, so that frames go out in the order in which replies are expected. The
        // queue is longer than the window, so there is room unless the connection is gone.
        let sent = self.lane.line.try_ask(frame);
        drop(state);
        if self.outstanding == 0 {
            self.progress = Instant::now();
        }
        self.outstanding += 1;
        sent.map_err(|_| AppendError::Lost)
    }
}

impl<S> Drop for Pump<S> {
    fn drop(&mut self) {
        self.lane.state().streams.remove(&self.stream);
    }
}

async fn next<S: Stream + Unpin>(input: Option<&mut S>) -> Option<S::Item> {
    input?.next().await
}

fn read(reply: AppendResult) -> Reply {
    match reply {
        AppendResult::Matching(id) => Ok(Ok(id.map(LogId::from))),
        AppendResult::Conflict(id) => Ok(Err(StreamAppendError::Conflict(id.into()))),
        AppendResult::HigherVote(vote) => Ok(Err(StreamAppendError::HigherVote(Vote::from(vote)))),
        AppendResult::Discarded => Err(AppendError::Failed("the stream had ended".into())),
        AppendResult::Failed(reason) => Err(AppendError::Failed(reason)),
    }
}
