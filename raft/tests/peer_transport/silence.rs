//! A network that swallows bytes without a word, in memory: what a simulator puts in place of
//! sockets goes through the same two traits.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use evermind_raft::peer::{
    AddressBook, Connect, Endpoint, ForwardError, Listen, PeerClient, PeerConfig, PeerStream, serve,
};
use openraft::base::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::support::{FakeNode, Gate, Shared, command, config, identity};

fn bounds() -> PeerConfig {
    PeerConfig {
        dial: Duration::from_millis(300),
        keepalive: Duration::from_millis(100),
        idle: Duration::from_millis(600),
        ..config()
    }
}

struct Wire {
    far: mpsc::UnboundedSender<DuplexStream>,
    cut: Arc<AtomicBool>,
}

struct Ends(mpsc::UnboundedReceiver<DuplexStream>);

impl Connect for Wire {
    fn connect(&self, _address: String) -> BoxFuture<'static, io::Result<PeerStream>> {
        let (near, here) = duplex(1 << 16);
        let (there, far) = duplex(1 << 16);
        let (here_read, here_write) = split(here);
        let (there_read, there_write) = split(there);
        for (mut from, mut to) in [(here_read, there_write), (there_read, here_write)] {
            let cut = self.cut.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = from.read(&mut buffer).await {
                    if !cut.load(Ordering::Relaxed) && to.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
            });
        }
        let sent = self.far.send(far);
        Box::pin(async move {
            sent.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok(Box::new(near) as PeerStream)
        })
    }
}

impl Listen for Ends {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(PeerStream, SocketAddr)>> {
        Box::pin(async {
            match self.0.recv().await {
                Some(stream) => Ok((Box::new(stream) as PeerStream, ([127, 0, 0, 1], 1).into())),
                None => std::future::pending().await,
            }
        })
    }
}

#[tokio::test]
async fn a_network_that_swallows_bytes_is_noticed_and_left_when_it_heals() {
    let (far, ends) = mpsc::unbounded_channel();
    let cut = Arc::new(AtomicBool::new(false));
    let book = AddressBook::new([(1, "one".into()), (2, "two".into())]);
    let mut two = Endpoint::new(identity(2), book.clone(), Arc::new(Gate::default()));
    two.config = bounds();
    let node = Arc::new(FakeNode::new());
    let _server = serve(Arc::new(two), Ends(ends), Arc::new(Shared(node.clone())));
    let mut one = Endpoint::new(identity(1), book, Arc::new(Gate::default()));
    one.config = bounds();
    one.connector = Arc::new(Wire {
        far,
        cut: cut.clone(),
    });
    let client = PeerClient::new(Arc::new(one));
    client.forward(2, &command(1)).await.unwrap();
    // What is idle stays up: it is pinged.
    sleep(3 * bounds().idle).await;
    client.forward(2, &command(2)).await.unwrap();
    assert_eq!(client.endpoint().stats().snapshot().dialed, 3);

    cut.store(true, Ordering::Relaxed);
    let since = Instant::now();
    let lost = client.forward(2, &command(3)).await;
    assert_eq!(lost, Err(ForwardError::Lost));
    assert!(
        since.elapsed() <= 4 * bounds().stall,
        "{:?}",
        since.elapsed()
    );
    sleep(Duration::from_millis(500)).await;
    assert!(client.last_heard(2).unwrap() <= since);
    let down = client.forward(2, &command(4)).await;
    assert!(
        matches!(down, Err(ForwardError::Unreachable(_))),
        "{down:?}"
    );

    cut.store(false, Ordering::Relaxed);
    let since = Instant::now();
    while client.forward(2, &command(5)).await.is_err() {
        sleep(Duration::from_millis(5)).await;
    }
    let bound = bounds().dial + bounds().redial_max + Duration::from_secs(1);
    assert!(since.elapsed() <= bound, "{:?}", since.elapsed());
    assert_eq!(*node.forwarded.lock().unwrap(), [1, 2, 5]);
}
