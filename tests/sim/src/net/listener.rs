//! A port that accepts.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::{Context, Poll, Waker};

use evermind_raft::peer::PeerStream;
use openraft::base::BoxFuture;

use super::{HostId, Net, SimStream};

/// Connections that wait to be accepted.
#[derive(Default)]
pub(super) struct Backlog {
    waiting: VecDeque<(SimStream, HostId)>,
    waker: Option<Waker>,
}

impl Backlog {
    pub(super) fn push(&mut self, stream: SimStream, from: HostId) {
        self.waiting.push_back((stream, from));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A port that accepts. Dropped, it refuses.
pub struct SimListener {
    net: Net,
    host: HostId,
    port: u16,
}

impl SimListener {
    pub(super) fn new(net: Net, host: HostId, port: u16) -> io::Result<Self> {
        let taken = {
            let mut inner = net.lock();
            let taken = inner.listeners.contains_key(&(host, port));
            if !taken {
                inner.listeners.insert((host, port), Backlog::default());
            }
            taken
        };
        if taken {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        Ok(Self { net, host, port })
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(SimStream, HostId)>> {
        let mut inner = self.net.lock();
        let Some(backlog) = inner.listeners.get_mut(&(self.host, self.port)) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if let Some(accepted) = backlog.waiting.pop_front() {
            return Poll::Ready(Ok(accepted));
        }
        backlog.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    async fn next(&self) -> io::Result<(SimStream, SocketAddr)> {
        let (stream, from) = poll_fn(|cx| self.poll_accept(cx)).await?;
        let last = u8::try_from(from).unwrap_or(u8::MAX);
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        Ok((stream, SocketAddr::new(address, 40_000)))
    }
}

impl evermind_raft::peer::Listen for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(PeerStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.next().await?;
            Ok((Box::new(stream) as PeerStream, from))
        })
    }
}

impl evermind_api::Socket for SimStream {}

impl evermind_api::Listen for SimListener {
    type Socket = SimStream;

    async fn accept(&mut self) -> io::Result<(SimStream, SocketAddr)> {
        self.next().await
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        // Out of the lock: closing what waits takes it again.
        let backlog = self.net.lock().listeners.remove(&(self.host, self.port));
        drop(backlog);
    }
}
