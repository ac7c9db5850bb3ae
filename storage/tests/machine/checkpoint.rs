//! Checkpoints: a start from one is as good as never having stopped.

use std::sync::Arc;

use evermind_storage::machine::{Checkpoints, Step};
use evermind_storage::runner::Threads;
use openraft::storage::RaftStateMachine;

use super::support::{Log, Place, at, model};

/// Stops at random places, each time with a checkpoint somewhere behind.
#[tokio::test]
async fn a_start_from_a_checkpoint_and_the_log_equals_never_having_stopped() {
    for seed in 0..3 {
        let place = Place::real();
        let entries = Log::new(seed).take(600);
        let mut from = 0;
        for stop in [100, 250, 450, 451, 600] {
            let mut node = place.start(from as u64, 0).unwrap();
            let applied = usize::try_from(node.applied().await).unwrap();
            assert!(applied <= from, "seed {seed}");
            let middle = usize::midpoint(applied, stop);
            node.apply(entries[applied..middle].to_vec()).await;
            let step = node.checkpointer.step().unwrap();
            assert!(
                matches!(step, Step::Written { .. }),
                "seed {seed}: {step:?}"
            );
            node.apply(entries[middle..stop].to_vec()).await;
            assert_eq!(
                node.state(),
                model(seed, stop).await,
                "seed {seed} at {stop}"
            );
            from = stop;
        }
        let mut node = place.start(600, 0).unwrap();
        let applied = usize::try_from(node.applied().await).unwrap();
        assert!(applied > 451, "seed {seed}: the last checkpoint was used");
        assert_eq!(node.state(), model(seed, applied).await, "seed {seed}");
        let (_, membership) = node.machine.applied_state().await.unwrap();
        assert_eq!(membership.log_id(), &at(1));
    }
}

#[tokio::test]
async fn only_what_changed_is_written_and_nothing_when_nothing_was_applied() {
    let place = Place::real();
    let mut log = Log::new(1);
    let mut node = place.start(0, 0).unwrap();
    node.apply(log.take(2)).await;
    node.apply((0..5000).map(|_| log.lease()).collect()).await;
    let first = node.checkpointer.step().unwrap();
    assert!(
        matches!(
            first,
            Step::Written {
                records: 5000..,
                whole: true
            }
        ),
        "{first:?}"
    );
    assert_eq!(node.checkpointer.step().unwrap(), Step::Nothing);
    node.apply(vec![log.lease(), log.lease(), log.lease()])
        .await;
    // Three locks, the counters, the session of node 1, the licence that was charged.
    assert_eq!(
        node.checkpointer.step().unwrap(),
        Step::Written {
            records: 6,
            whole: false
        }
    );
    let state = node.state();
    drop(node);
    let node = place.start(10_000, 0).unwrap();
    assert_eq!(node.state(), state);
}

#[tokio::test]
async fn a_checkpoint_waits_for_the_log() {
    let place = Place::real();
    let mut log = Log::new(2);
    let mut node = place.start(0, 0).unwrap();
    node.apply(log.take(100)).await;
    node.apply_unsynced(log.take(100)).await;
    assert_eq!(node.checkpointer.step().unwrap(), Step::Waiting);
    assert_eq!(node.checkpointer.step().unwrap(), Step::Waiting);
    drop(node);
    // What was not synced was not kept: the log may end here.
    let mut node = place.start(100, 0).unwrap();
    assert_eq!(node.applied().await, 0);

    let mut log = Log::new(2);
    node.apply(log.take(100)).await;
    node.apply_unsynced(log.take(100)).await;
    assert_eq!(node.checkpointer.step().unwrap(), Step::Waiting);
    node.apply_unsynced(log.take(50)).await;
    // As far as it was when it had to wait; what came since is left for the next.
    node.synced.send_replace(at(200));
    assert!(matches!(
        node.checkpointer.step().unwrap(),
        Step::Written { .. }
    ));
    assert_eq!(node.checkpointer.step().unwrap(), Step::Waiting);
    drop(node);
    let mut node = place.start(250, 0).unwrap();
    assert_eq!(node.applied().await, 200);
    assert_eq!(node.state(), model(2, 200).await);
}

#[tokio::test]
async fn a_stop_takes_a_last_checkpoint_and_closes_the_table() {
    let place = Place::real();
    let mut log = Log::new(3);
    let mut node = place.start(0, 0).unwrap();
    let checkpoints = Checkpoints::start(node.checkpointer, &Threads, |error| panic!("{error}"));
    let entries = log.take(300);
    node.synced.send_replace(at(300));
    let ready = entries.into_iter().map(|entry| Ok((entry, None)));
    node.machine
        .apply(futures_util::stream::iter(ready))
        .await
        .unwrap();
    checkpoints.stop().await;
    let mut node = place.start(300, 0).unwrap();
    assert_eq!(node.applied().await, 300);
    assert_eq!(node.state(), model(3, 300).await);
    assert_eq!(Arc::strong_count(&node.told), 2);
}

/// A whole table, then more changes to it than are made at once, then a few.
#[tokio::test]
async fn many_changes_are_a_checkpoint_like_few() {
    let place = Place::real();
    let mut log = Log::new(21);
    let mut node = place.start(0, 0).unwrap();
    node.apply(log.take(2)).await;
    let mut entries = 2;
    for leases in [3_000_u64, 2_000, 10] {
        node.apply((0..leases).map(|_| log.lease()).collect()).await;
        entries += leases;
        let step = node.checkpointer.step().unwrap();
        let Step::Written { records, .. } = step else {
            panic!("{step:?}");
        };
        assert!(records as u64 >= leases, "{records} of {leases}");
        let before = node.state();
        drop(node);
        node = place.start(entries, 0).unwrap();
        assert_eq!(node.applied().await, entries, "the checkpoint was not used");
        assert_eq!(node.state(), before);
    }
}
