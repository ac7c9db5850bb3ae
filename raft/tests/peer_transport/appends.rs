//! Append streams: pipelined, ordered, and never in the way of a heartbeat.

use std::sync::atomic::Ordering;
use std::time::Duration;

use evermind_lock::command::{Action, Command, Member, Stamp};
use evermind_storage::types::{Entry, Proposal};
use futures_util::{StreamExt, stream};
use openraft::EntryPayload;
use openraft::error::RPCError;
use openraft::network::{RPCOption, RaftNetworkV2};
use openraft::raft::StreamAppendError;

use crate::support::{append, log_id, pair, until};

fn option() -> RPCOption {
    RPCOption::new(Duration::from_secs(2))
}

#[tokio::test]
async fn every_request_is_answered_in_order() {
    let (one, two) = pair().await;
    let mut network = one.network(2).await;
    let input = stream::iter((1..=1000).map(append));
    let replies: Vec<_> = network
        .stream_append(input, option())
        .await
        .unwrap()
        .map(|reply| reply.unwrap().unwrap().unwrap().index)
        .collect()
        .await;
    assert_eq!(replies, (1..=1000).collect::<Vec<_>>());
    assert_eq!(*two.node.appended.lock().unwrap(), replies);
    assert_eq!(two.node.streams.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_window_of_requests_is_sent_ahead_and_no_more() {
    let (one, two) = pair().await;
    two.node.hold();
    let pulled = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = pulled.clone();
    let input = stream::iter((1..=200).map(append)).inspect(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let mut network = one.network(2).await;
    let mut replies = network.stream_append(input, option()).await.unwrap();
    let first = tokio::time::timeout(Duration::from_millis(200), replies.next()).await;
    assert!(first.is_err(), "nothing is answered before it is done");
    assert_eq!(pulled.load(Ordering::Relaxed), 64);
    two.node.release(200);
    assert_eq!(replies.count().await, 200);
}

#[tokio::test]
async fn a_conflict_ends_its_stream_and_not_the_next() {
    let (one, two) = pair().await;
    two.node.conflict_at.store(5, Ordering::Relaxed);
    let mut network = one.network(2).await;
    for _ in 0..20 {
        let input = stream::iter((1..=100).map(append));
        let replies: Vec<_> = network
            .stream_append(input, option())
            .await
            .unwrap()
            .map(Result::unwrap)
            .collect()
            .await;
        assert_eq!(replies.len(), 5);
        assert_eq!(replies[4], Err(StreamAppendError::Conflict(log_id(3, 5))));
    }
    two.node.conflict_at.store(u64::MAX, Ordering::Relaxed);
    let input = stream::iter((1..=100).map(append));
    let replies = network.stream_append(input, option()).await.unwrap();
    assert_eq!(replies.count().await, 100);
}

#[tokio::test]
async fn a_stream_dropped_midway_leaves_the_connection_whole() {
    let (one, two) = pair().await;
    let mut network = one.network(2).await;
    for _ in 0..20 {
        let input = stream::iter((1..=100).map(append));
        let mut replies = network.stream_append(input, option()).await.unwrap();
        assert!(replies.next().await.unwrap().is_ok());
    }
    let input = stream::iter((501..=600).map(append));
    let replies = network.stream_append(input, option()).await.unwrap();
    assert_eq!(replies.count().await, 100);
    assert_eq!(two.endpoint.stats().snapshot().violations, 0);
    // One for each purpose: no connection was lost on the way.
    assert_eq!(one.endpoint.stats().snapshot().dialed, 3);
}

/// An entry of half a mebibyte.
fn long_entry(index: u64) -> Entry {
    let member = Member {
        node: 1,
        disk: 1,
        http: "h".repeat(512 << 10),
        peer: String::new(),
    };
    let stamp = Stamp {
        cluster_ms: 1,
        term: 3,
        wall_ms: 1,
    };
    let command = Command {
        operation: None,
        action: Action::RecordMember(member),
    };
    Entry {
        log_id: log_id(3, index),
        payload: EntryPayload::Normal(Proposal {
            stamp,
            command: command.into(),
        }),
    }
}

#[tokio::test]
async fn a_request_too_long_for_a_frame_goes_in_pieces() {
    let (one, two) = pair().await;
    let mut long = append(1);
    long.entries = (1..=40).map(long_entry).collect();
    let mut network = one.network(2).await;
    let replies: Vec<_> = network
        .stream_append(stream::iter([long]), option())
        .await
        .unwrap()
        .map(|reply| reply.unwrap().unwrap().unwrap().index)
        .collect()
        .await;
    assert!(replies.len() > 1, "{replies:?}");
    assert!(replies.is_sorted());
    assert_eq!(replies.last(), Some(&40));
    assert_eq!(
        *two.node.appended.lock().unwrap(),
        (1..=40).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_stream_without_replies_fails_and_heartbeats_pass_it() {
    let (one, two) = pair().await;
    two.node.hold();
    let mut network = one.network(2).await;
    let input = stream::iter((1..=100).map(append)).chain(stream::pending());
    let mut replies = network
        .stream_append(Box::pin(input), option())
        .await
        .unwrap();
    let stuck = replies.next();

    let mut heartbeats = one.heartbeats(2).await;
    let beat = async {
        for _ in 0..10 {
            let input = stream::iter([append(1)]);
            let mut beats = heartbeats.stream_append(input, option()).await.unwrap();
            assert!(beats.next().await.unwrap().is_ok());
            assert!(beats.next().await.is_none());
        }
    };
    let (stuck, ()) = tokio::join!(stuck, beat);
    assert!(
        matches!(stuck, Some(Err(RPCError::Timeout(_)))),
        "{stuck:?}"
    );
    assert_eq!(two.node.heartbeats.load(Ordering::Relaxed), 10);
    // The peer's transport answered pings all the while: its connection was not given up.
    assert_eq!(one.endpoint.stats().snapshot().dialed, 3);
}

#[tokio::test]
async fn a_server_that_goes_away_ends_the_stream_and_one_that_comes_back_serves() {
    let (one, mut two) = pair().await;
    let mut network = one.network(2).await;
    let input = stream::iter((1..=3).map(append)).chain(stream::pending());
    let mut replies = network
        .stream_append(Box::pin(input), option())
        .await
        .unwrap();
    for _ in 0..3 {
        assert!(replies.next().await.unwrap().is_ok());
    }
    two.server = None;
    let ended = replies.next().await;
    assert!(
        matches!(ended, Some(Err(RPCError::Network(_)))),
        "{ended:?}"
    );
    drop(replies);

    let mut down = false;
    until("a dial has failed", || {
        down |= one.client.last_heard(2).is_some();
        down
    })
    .await;
    let refused = loop {
        let input = stream::iter([append(4)]);
        match network.stream_append(input, option()).await {
            Ok(replies) => drop(replies),
            Err(error) => break error,
        }
        tokio::task::yield_now().await;
    };
    assert!(matches!(refused, RPCError::Unreachable(_)), "{refused:?}");

    two.serve_again().await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let input = stream::iter([append(4)]);
        if let Ok(mut replies) = network.stream_append(input, option()).await
            && let Some(Ok(reply)) = replies.next().await
        {
            assert_eq!(reply, Ok(Some(log_id(3, 4))));
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "never served again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
