//! What is no peer is turned away, and costs nothing.

use std::time::Duration;

use evermind_raft::peer::UNPROVED_CONNECTIONS_MAX;
use evermind_storage::codec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::support::{TestNode, identity, pair, until};

/// Sends `bytes`, and waits until the other side closes.
async fn closed_after(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest));
    // A reset is as good an end as any.
    let _ = read.await.expect("closed in time");
}

#[tokio::test]
async fn what_is_not_our_protocol_is_closed_and_counted() {
    let (one, two) = pair().await;
    let noise: Vec<u8> = (0..4096_u32)
        .map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 24).unwrap())
        .collect();
    let mut foreign = vec![20, 0, 0, 0];
    foreign.extend_from_slice(&[0; 20]);
    let mut cut = vec![30, 0, 0, 0];
    cut.extend_from_slice(b"evermind\x02\x00");
    cut.extend_from_slice(&[codec::VERSION, 0]);
    cut.extend_from_slice(&[0xff; 18]);
    let cases: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        &noise,
        &[0xff; 4],
        &[0; 64],
        &foreign,
        &cut,
    ];
    for case in cases {
        closed_after(&two.address, case).await;
    }
    until("counted", || two.endpoint.stats().snapshot().garbage == 6).await;
    assert!(one.client.read_index(2).await.is_ok());
}

#[tokio::test]
async fn another_version_of_the_protocol_is_answered_with_ours() {
    let (_one, two) = pair().await;
    let mut hello = vec![12, 0, 0, 0];
    hello.extend_from_slice(b"evermind\x63\x00\x01\x00");
    let mut stream = TcpStream::connect(&two.address).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    // A refusal under our own magic and versions (of the protocol, 2, and of the codec): 3 is
    // `Refused`, 2 is `VersionMismatch`.
    let mut ours = b"\x0d\x00\x00\x00evermind\x02\x00".to_vec();
    ours.extend_from_slice(&[codec::VERSION, 3, 2]);
    assert_eq!(answer, ours);
    until("counted", || two.endpoint.stats().snapshot().refused == 1).await;
}

#[tokio::test]
async fn who_says_nothing_is_closed_and_does_not_keep_peers_out() {
    let (one, two) = pair().await;
    assert!(one.client.read_index(2).await.is_ok());
    let mut strangers = Vec::new();
    for _ in 0..2 * UNPROVED_CONNECTIONS_MAX {
        let mut stranger = TcpStream::connect(&two.address).await.unwrap();
        let _ = stranger.write_all(&[83]).await;
        strangers.push(stranger);
    }
    until("bounded", || two.endpoint.stats().snapshot().over_limit > 0).await;
    // A byte now and then buys no time.
    let dribbling = tokio::spawn(async move {
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            for stranger in &mut strangers {
                let _ = stranger.write_all(&[0]).await;
            }
            sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(one.client.read_index(2).await.is_ok(), "who is in stays in");
    until("timed out", || {
        two.endpoint.stats().snapshot().too_slow >= UNPROVED_CONNECTIONS_MAX as u64
    })
    .await;
    let book = evermind_raft::peer::AddressBook::new([(2, two.address.clone())]);
    two.endpoint.addresses.set(3, "elsewhere:1");
    let three = TestNode::start(identity(3), &book).await;
    until("let in", || three.client.last_heard(2).is_some()).await;
    dribbling.await.unwrap();
}
