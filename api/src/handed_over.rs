//! The answer to an acquire, which knows when it left.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::locks::PendingAcquire;

/// On a response: it grants what its caller stood in line for. If the caller closed its side
/// meanwhile, it is taken for gone, and the next in line gets the lock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AfterWait;

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
