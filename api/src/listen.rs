//! Where callers' connections come from: TCP, or whatever stands in for it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A connection's two directions.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Whether the other side has closed the connection, whatever it sent before that. Asks the system,
    /// where the runtime may not have heard of it yet. `false` where this cannot be said.
    fn has_ended(&self) -> bool {
        false
    }
}

impl Socket for TcpStream {
    #[cfg(target_os = "linux")]
    fn has_ended(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // A reset counts as one too.
        let mut looked = [PollFd::new(self, PollFlags::RDHUP)];
        matches!(poll(&mut looked, Some(&at_once)), Ok(1..))
    }

    /// Only where nothing that was sent stands before the end.
    #[cfg(not(target_os = "linux"))]
    fn has_ended(&self) -> bool {
        use nix::errno::Errno;
        use nix::sys::socket::{MsgFlags, recv};
        use std::os::fd::AsRawFd as _;
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

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::io::Write as _;
    use std::time::{Duration, Instant};

    use super::*;

    #[tokio::test]
    async fn an_end_is_seen_behind_what_was_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (sent, resets) in [("", false), ("", true), ("G", false), ("G", true)] {
            let mut caller = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (socket, _) = listener.accept().await.unwrap();
            caller.write_all(sent.as_bytes()).unwrap();
            assert!(!socket.has_ended());
            caller.set_nonblocking(true).unwrap();
            let caller = TcpStream::from_std(caller).unwrap();
            if resets {
                caller.set_zero_linger().unwrap();
            }
            drop(caller);
            // The runtime is not asked.
            let since = Instant::now();
            while !socket.has_ended() {
                assert!(
                    since.elapsed() < Duration::from_secs(5),
                    "{sent:?} {resets}"
                );
            }
        }
    }
}
