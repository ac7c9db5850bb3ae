//! Where callers' connections come from: TCP, or whatever stands in for it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A connection's two directions.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Whether the other side has closed the connection and nothing that it sent stands before its
    /// end. Asks the system, where the runtime may not have heard of it yet. `false` where this
    /// cannot be said.
    fn has_ended(&self) -> bool {
        false
    }
}

impl Socket for TcpStream {
    fn has_ended(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        match recv(self.as_raw_fd(), &mut [0], flags) {
            Ok(read) => read == 0,
            Err(error) => !matches!(error, Errno::EAGAIN | Errno::EINTR),
        }
    }
}

/// Accepts.
pub trait Listen: Send {
    /// A connection.
    type Socket: Socket;

    /// The next connection, and where it comes from. Cancel-safe.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Socket, SocketAddr)>> + Send;
}

impl Listen for TcpListener {
    type Socket = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, from) = TcpListener::accept(self).await?;
        // An answer is one small write: waiting to fill a packet would only delay it.
        let _ = stream.set_nodelay(true);
        Ok((stream, from))
    }
}
