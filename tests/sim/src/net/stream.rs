//! One end of a connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Net;
use super::connection::Segment;

/// The most bytes of one segment.
const SEGMENT_BYTES_MAX: usize = 64 << 10;

/// One end of a connection. Dropped, it is closed as a kernel closes it.
pub struct SimStream {
    net: Net,
    id: u64,
    side: usize,
    ended: bool,
}

impl SimStream {
    pub(super) fn new(net: Net, id: u64, side: usize) -> Self {
        Self {
            net,
            id,
            side,
            ended: false,
        }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.net.lock();
        match inner.connections.get_mut(&self.id) {
            Some(connection) => connection.poll_read(self.side, cx, buffer),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut inner = self.net.lock();
        let Some(connection) = inner.connections.get_mut(&self.id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        ready!(connection.poll_room(self.side, cx))?;
        let count = bytes.len().min(SEGMENT_BYTES_MAX);
        let segment = Segment::Bytes(Bytes::copy_from_slice(&bytes[..count]));
        inner.send(self.id, self.side, segment);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended {
            self.ended = true;
            self.net.lock().send(self.id, self.side, Segment::End);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut inner = self.net.lock();
        let Some(connection) = inner.connections.get_mut(&self.id) else {
            return;
        };
        match connection.close(self.side) {
            Some(Segment::End) if self.ended => {}
            Some(last) => inner.send(self.id, self.side, last),
            None => {}
        }
    }
}
