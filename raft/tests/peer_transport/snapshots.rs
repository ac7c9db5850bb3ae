//! Snapshots.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use evermind_storage::types::{SnapshotMeta, StoredMembership, TypeConfig, Vote};
use openraft::alias::SnapshotOf;
use openraft::error::{ReplicationClosed, StreamingError};
use openraft::network::{RPCOption, RaftNetworkV2};
use openraft::{Membership, Snapshot};

use crate::support::{Bytewise, log_id, pair, until};

fn snapshot(bytes: usize) -> SnapshotOf<TypeConfig, Bytewise> {
    let pattern = (0..bytes).map(|n| u8::try_from((n * 31 + n / 251) % 256).unwrap());
    Snapshot {
        meta: SnapshotMeta {
            last_log_id: Some(log_id(3, 500)),
            last_membership: StoredMembership::new(
                Some(log_id(1, 2)),
                Membership::new_with_defaults(vec![[1, 2, 3].into()], [4]),
            ),
        },
        snapshot: Bytewise(Arc::new(pattern.collect())),
    }
}

fn option() -> RPCOption {
    RPCOption::new(Duration::from_mins(1))
}

fn never() -> impl Future<Output = ReplicationClosed> {
    std::future::pending()
}

#[tokio::test]
async fn every_byte_arrives_and_the_answer_is_the_receivers_vote() {
    let (one, two) = pair().await;
    let mut network = one.network(2).await;
    for bytes in [0, 1, 1 << 20, (1 << 20) + 1, (9 << 20) + 17] {
        two.node.snapshot.lock().unwrap().clear();
        let sent = snapshot(bytes);
        let vote = Vote::new_committed(3, 1);
        let answer = network
            .full_snapshot(vote, sent.clone(), never(), option())
            .await
            .unwrap();
        assert_eq!(answer.vote, vote);
        assert!(
            *two.node.snapshot.lock().unwrap() == *sent.snapshot.0,
            "{bytes} bytes"
        );
        assert_eq!(*two.node.installed.lock().unwrap(), Some((vote, sent.meta)));
    }
    assert_eq!(two.node.snapshots_dropped.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_cancelled_snapshot_is_dropped_on_the_other_side() {
    let (one, two) = pair().await;
    two.node.snapshot_stuck.store(true, Ordering::Relaxed);
    let mut network = one.network(2).await;
    let (cancel, cancelled) = tokio::sync::oneshot::channel::<()>();
    let cancelled = async move {
        cancelled.await.unwrap();
        ReplicationClosed::new("another leader")
    };
    let vote = Vote::new_committed(3, 1);
    let sending = network.full_snapshot(vote, snapshot(9 << 20), cancelled, option());
    let cancelling = async {
        until("the snapshot connection", || {
            one.endpoint.stats().snapshot().dialed == 4
        })
        .await;
        cancel.send(()).unwrap();
    };
    let (sent, ()) = tokio::join!(sending, cancelling);
    assert!(matches!(sent, Err(StreamingError::Closed(_))), "{sent:?}");
    until("dropped", || {
        two.node.snapshots_dropped.load(Ordering::Relaxed) == 1
    })
    .await;
    assert!(two.node.installed.lock().unwrap().is_none());
}

#[tokio::test]
async fn a_snapshot_that_makes_no_progress_fails() {
    let (one, two) = pair().await;
    two.node.snapshot_stuck.store(true, Ordering::Relaxed);
    let mut network = one.network(2).await;
    let vote = Vote::new_committed(3, 1);
    let sent = network
        .full_snapshot(vote, snapshot(9 << 20), never(), option())
        .await;
    assert!(matches!(sent, Err(StreamingError::Timeout(_))), "{sent:?}");
}
