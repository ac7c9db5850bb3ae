//! A caller's socket, which tells the [`Watch`] what passes.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::AHEAD_BYTES_MAX;
use crate::listen::Socket;
use crate::watch::Watch;

/// Hyper does not read while bytes of a next request stand in its buffer, and so does not notice
/// that the caller has closed the connection behind them. While a request is in work this reads on
/// by itself: what was sent ahead is kept for hyper, up to a bound, and the end is noticed.
pub(crate) struct Wire<S> {
    stream: S,
    watch: Arc<Watch>,
    /// Read ahead of hyper.
    ahead: BytesMut,
    /// The end was read: nothing follows what is in `ahead`.
    ended: bool,
    /// Hyper waits for bytes, asked for since the last flush, and so hears of the end itself.
    hyper_reads: bool,
}

impl<S: Socket> Wire<S> {
    pub(crate) fn new(stream: S, watch: Arc<Watch>) -> Self {
        Self {
            stream,
            watch,
            ahead: BytesMut::new(),
            ended: false,
            hyper_reads: false,
        }
    }

    /// Reads what the caller has sent ahead, and its end. An error ends the connection, and with it
    /// the request.
    fn read_ahead(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.ended {
            if self.ahead.len() >= AHEAD_BYTES_MAX {
                // Its end cannot be seen behind what is not read.
                self.watch.crowded();
                return Ok(());
            }
            let mut chunk = [MaybeUninit::uninit(); 2048];
            let mut chunk = ReadBuf::uninit(&mut chunk);
            match Pin::new(&mut self.stream).poll_read(cx, &mut chunk) {
                Poll::Pending => return Ok(()),
                Poll::Ready(read) => read?,
            }
            self.ended = chunk.filled().is_empty();
            self.ahead.extend_from_slice(chunk.filled());
        }
        if self.watch.half_closed() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => self.watch.sent(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.watch.blocked(),
        }
        written
    }

    /// Before an answer is written that grants what its caller waited for: a caller that is known to
    /// be gone is not granted anything.
    fn before_write(&self) -> io::Result<()> {
        if self.watch.grants() && (self.watch.caller_left() || self.stream.has_ended()) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl<S: Socket> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.hyper_reads = false;
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..length]);
            self.ahead.advance(length);
            if self.ahead.is_empty() {
                self.ahead = BytesMut::new();
            }
            self.watch.received();
            return Poll::Ready(Ok(()));
        }
        if !self.ended {
            let before = buffer.filled().len();
            let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
            self.hyper_reads = read.is_pending();
            ready!(read)?;
            if buffer.filled().len() > before {
                self.watch.received();
                return Poll::Ready(Ok(()));
            }
            self.ended = buffer.remaining() > 0;
        }
        if self.ended && !self.watch.half_closed() {
            // Hyper would drop the request at the sight of this end. No waker is needed: the
            // connection's own task looks at the watch after every poll, and sets its timer.
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Socket> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.before_write()?;
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.before_write()?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.watch.flushed();
        // Hyper flushes at the end of every turn, whatever it waits for.
        if self.watch.is_read_whole() && !self.hyper_reads {
            self.read_ahead(cx)?;
        }
        self.hyper_reads = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
