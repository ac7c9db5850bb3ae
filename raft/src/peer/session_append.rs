//! Serving append streams: one after the other, a reply for every request, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use evermind_lock::command::NodeId;
use evermind_storage::types::TypeConfig;
use futures_util::StreamExt;
use openraft::raft::AppendEntriesRequest;
use tokio::sync::mpsc;

use super::handler::PeerHandler;
use super::origin::check_vote;
use super::outbox::{Closed, Outbox};
use super::wire::{AppendReply, AppendResult, Kind, WireError};
use super::wire_append::read_append;
use super::{APPEND_BYTES_IN_FLIGHT_MAX, APPENDS_IN_FLIGHT_MAX};

struct Request {
    stream: u64,
    append: AppendEntriesRequest<TypeConfig>,
    bytes: usize,
}

/// Where requests are put as they are read.
pub(super) struct Requests {
    from: NodeId,
    queue: mpsc::Sender<Request>,
    bytes: Arc<AtomicUsize>,
}

/// Requests that were read.
pub(super) struct Queue {
    queue: mpsc::Receiver<Request>,
    bytes: Arc<AtomicUsize>,
}

/// A queue for what a well-behaved peer may have in flight.
pub(super) fn queue(from: NodeId) -> (Requests, Queue) {
    let (sender, queue) = mpsc::channel(APPENDS_IN_FLIGHT_MAX);
    let bytes = Arc::new(AtomicUsize::new(0));
    let requests = Requests {
        from,
        queue: sender,
        bytes: bytes.clone(),
    };
    (requests, Queue { queue, bytes })
}

impl Requests {
    pub(super) fn put(&self, body: &[u8]) -> Result<(), WireError> {
        let bytes = body.len();
        // The dialer rounds up; a frame more than the window is let pass.
        let queued = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if queued > APPEND_BYTES_IN_FLIGHT_MAX {
            return Err(WireError::TooMuch);
        }
        let (stream, append) = read_append(body)?;
        check_vote(self.from, &append.vote).map_err(WireError::NotItsOwn)?;
        self.queue
            .try_send(Request {
                stream,
                append,
                bytes,
            })
            .map_err(|_| WireError::TooMuch)
    }
}

/// Serves streams until the connection ends.
pub(super) async fn work(
    from: NodeId,
    handler: &dyn PeerHandler,
    mut queue: Queue,
    outbox: Outbox,
) {
    let mut first = queue.next().await;
    while let Some(request) = first {
        match stream(from, handler, request, &mut queue, &outbox).await {
            Ok(next) => first = next,
            Err(Closed) => return,
        }
    }
}

impl Queue {
    async fn next(&mut self) -> Option<Request> {
        let request = self.queue.recv().await?;
        self.bytes.fetch_sub(request.bytes, Ordering::Relaxed);
        Some(request)
    }
}

/// Serves one stream, and returns the first request of the next. A stream is drained before the
/// next one starts, so that what it still does cannot come in between.
async fn stream(
    from: NodeId,
    handler: &dyn PeerHandler,
    first: Request,
    queue: &mut Queue,
    outbox: &Outbox,
) -> Result<Option<Request>, Closed> {
    let stream = first.stream;
    let (sender, input) = mpsc::channel(APPENDS_IN_FLIGHT_MAX);
    let input = futures_util::stream::unfold(input, |mut input| async move {
        Some((input.recv().await?, input))
    });
    let mut replies = handler.append(from, Box::pin(input));
    let mut input = Some(sender);
    let mut unanswered = 0_usize;
    let mut next = Some(first);
    loop {
        match next {
            Some(request) if request.stream == stream => {
                unanswered += 1;
                if let Some(sender) = &input {
                    // A stream that has ended by itself takes no more; its replies end too.
                    let _ = sender.send(request.append).await;
                }
                next = None;
            }
            // The end of the connection, or another stream: this one gets no more.
            Some(_) => input = None,
            None => {}
        }
        tokio::select! {
            biased;
            reply = replies.next() => {
                let Some(reply) = reply else { break };
                unanswered = unanswered.saturating_sub(1);
                reply_with(stream, reply.into(), outbox).await?;
            }
            request = queue.next(), if next.is_none() && input.is_some() => match request {
                Some(request) => next = Some(request),
                None => input = None,
            }
        }
    }
    // Ended early, for a conflict or a higher vote: what was already on its way changes nothing.
    drop(input);
    for _ in 0..unanswered {
        reply_with(stream, AppendResult::Discarded, outbox).await?;
    }
    while next.as_ref().is_none_or(|request| request.stream == stream) {
        if next.is_some() {
            reply_with(stream, AppendResult::Discarded, outbox).await?;
        }
        next = queue.next().await;
        if next.is_none() {
            break;
        }
    }
    Ok(next)
}

async fn reply_with(stream: u64, result: AppendResult, outbox: &Outbox) -> Result<(), Closed> {
    outbox
        .send(Kind::AppendReply.with(&AppendReply { stream, result }))
        .await
}
