//! Where streams of bytes come from: TCP, or whatever stands in for it.

use std::io;
use std::net::SocketAddr;

use openraft::base::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A connection's two directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, whatever carries it.
pub type PeerStream = Box<dyn Stream>;

/// Dials.
pub trait Connect: Send + Sync + 'static {
    /// Opens a stream to `host:port`, resolving the name now. The caller bounds the time.
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<PeerStream>>;
}

/// Accepts.
pub trait Listen: Send + 'static {
    /// The next connection, and where it comes from. Cancel-safe.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(PeerStream, SocketAddr)>>;
}

/// Plain TCP with `NODELAY`: frames are coalesced before they are written, so that Nagle's
/// algorithm could only delay them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Connect for Tcp {
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<PeerStream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as PeerStream)
        })
    }
}

impl Listen for Box<dyn Listen> {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(PeerStream, SocketAddr)>> {
        (**self).accept()
    }
}

impl Listen for TcpListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(PeerStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = TcpListener::accept(self).await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as PeerStream, from))
        })
    }
}

/// Which end of a connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It dialed.
    Dialer,
    /// It accepted.
    Acceptor,
}

/// What goes around a stream before the first byte of ours: the place for mutual TLS. Its time
/// counts against the handshake's.
pub trait Wrap: Send + Sync + 'static {
    /// Wraps a fresh stream.
    fn wrap(&self, stream: PeerStream, side: Side) -> BoxFuture<'static, io::Result<PeerStream>>;
}

/// Nothing around the stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Wrap for Plain {
    fn wrap(&self, stream: PeerStream, _side: Side) -> BoxFuture<'static, io::Result<PeerStream>> {
        Box::pin(std::future::ready(Ok(stream)))
    }
}
