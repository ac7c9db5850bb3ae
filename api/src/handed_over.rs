//! The answer to an acquire, which knows when it left.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::locks::PendingAcquire;

/// On a response: it grants what its caller waited for. The connection takes the grant out of it,
/// and says that it is handed over once the socket has taken the whole answer. Dropped before that,
/// it drops the acquire, and the next waiter gets the lock.
#[derive(Debug, Clone)]
pub(crate) struct AfterWait(Arc<Mutex<Option<Grant>>>);

impl AfterWait {
    pub(crate) fn new(pending: impl PendingAcquire) -> Self {
        let grant = Grant(Box::new(pending));
        Self(Arc::new(Mutex::new(Some(grant))))
    }

    pub(crate) fn take(&self) -> Option<Grant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// An acquire that was granted, and whose caller has not been answered yet.
pub(crate) struct Grant(Box<dyn HandOver>);

impl Grant {
    /// See [`PendingAcquire::handed_over`].
    pub(crate) fn handed_over(self) {
        self.0.handed_over();
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grant")
    }
}

trait HandOver: Send {
    fn handed_over(self: Box<Self>);
}

impl<P: PendingAcquire> HandOver for P {
    fn handed_over(self: Box<Self>) {
        PendingAcquire::handed_over(*self);
    }
}

/// A body that says [`PendingAcquire::handed_over`] when it is taken to be written to the
/// caller's socket. Dropped before that, it drops the acquire, which gives a raced grant back.
pub(crate) struct HandedOver<P> {
    answer: Option<(Bytes, P)>,
}

impl<P> HandedOver<P> {
    pub(crate) fn new(bytes: Bytes, pending: P) -> Self {
        Self {
            answer: Some((bytes, pending)),
        }
    }
}

// Nothing in it is ever pinned.
impl<P> Unpin for HandedOver<P> {}

impl<P: PendingAcquire> Body for HandedOver<P> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.answer.take().map(|(bytes, pending)| {
            pending.handed_over();
            Ok(Frame::data(bytes))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(
            self.answer
                .as_ref()
                .map_or(0, |(bytes, _)| bytes.len() as u64),
        )
    }
}
