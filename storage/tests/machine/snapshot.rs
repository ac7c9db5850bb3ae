//! Snapshots: whole, or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use evermind_lock::table::LockTable;
use evermind_storage::machine::{SnapshotError, SnapshotFile};
use evermind_storage::types::LogId;
use openraft::RaftSnapshotBuilder;
use openraft::storage::RaftStateMachine;

use super::support::{Log, Node, Place, ToldOf, at, model};

/// Sends a snapshot in pieces, and installs what arrives.
pub(crate) async fn install(node: &mut Node, snapshot: &SnapshotFile) {
    let received = receive(node, &bytes(snapshot).await).await.unwrap();
    let meta = received.snapshot_meta();
    node.machine
        .install_snapshot(&meta, received)
        .await
        .unwrap();
}

pub(crate) async fn bytes(snapshot: &SnapshotFile) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let piece = snapshot.read(bytes.len() as u64, 100_000).await.unwrap();
        if piece.is_empty() {
            return bytes;
        }
        bytes.extend_from_slice(&piece);
    }
}

pub(crate) async fn receive(node: &Node, bytes: &[u8]) -> Result<SnapshotFile, SnapshotError> {
    let mut receiver = node.machine.snapshots().receive().await.unwrap();
    for piece in bytes.chunks(70_000) {
        receiver.push(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    assert_eq!(receiver.received(), bytes.len() as u64);
    receiver.finish().await
}

#[tokio::test]
async fn what_was_built_here_is_installed_there() {
    let place = Place::without_sled();
    let mut log = Log::new(11);
    let mut node = place.start(0, 0).unwrap();
    node.apply(log.take(800)).await;
    let snapshot = node.build_snapshot().await;
    assert_eq!(snapshot.snapshot_meta().last_log_id, at(800));
    assert_eq!(snapshot.snapshot_meta().last_membership.log_id(), &at(1));
    assert!(place.the_snapshot().to_string_lossy().ends_with(".built"));

    let there = Place::without_sled();
    let mut other = there.start(0, 0).unwrap();
    other.apply(Log::new(11).take(5)).await;
    install(&mut other, &snapshot).await;
    assert_eq!(other.state(), node.state());
    assert_eq!(other.applied().await, 800);
    assert!(
        there
            .the_snapshot()
            .to_string_lossy()
            .ends_with(".installed")
    );
    let progress = other.machine.handle().progress();
    assert_eq!(
        other.told.0.lock().unwrap().last(),
        Some(&ToldOf::Replaced(progress))
    );
    let current = other.machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(bytes(&current.snapshot).await, bytes(&snapshot).await);

    // The log goes on from there, and its own next snapshot takes the place of the other.
    other.apply(log.take(100)).await;
    other.build_snapshot().await;
    assert!(there.the_snapshot().to_string_lossy().ends_with(".built"));
    // Who was still reading the old one can.
    assert_eq!(bytes(&current.snapshot).await, bytes(&snapshot).await);
    drop(other);
    let other = there.start(900, 800).unwrap();
    assert_eq!(other.state(), model(11, 900).await);
}

#[tokio::test]
async fn the_same_state_is_not_built_twice() {
    let place = Place::without_sled();
    let mut node = place.start(0, 0).unwrap();
    node.apply(Log::new(12).take(50)).await;
    let first = node.build_snapshot().await;
    let second = node.build_snapshot().await;
    assert_eq!(first.path(), second.path());
    assert_eq!(place.snapshots().len(), 1);
}

#[tokio::test]
async fn a_snapshot_is_in_place_only_once_the_log_has_synced_it() {
    let place = Place::without_sled();
    let mut log = Log::new(13);
    let mut node = place.start(0, 0).unwrap();
    node.apply(log.take(50)).await;
    node.apply_unsynced(log.take(50)).await;
    let mut builder = node.machine.get_snapshot_builder().await;
    let building = tokio::spawn(async move { builder.build_snapshot().await });
    // Written, and waiting: under no other name than a temporary one.
    node.synced.send_replace(at(99));
    tokio::task::yield_now().await;
    let names = place.snapshots();
    assert!(
        !names.iter().any(|name| name.contains("built")),
        "{names:?}"
    );
    assert!(!building.is_finished());
    node.synced.send_replace(at(100));
    let built = building.await.unwrap().unwrap();
    assert_eq!(built.meta.last_log_id, at(100));
    assert_eq!(built.snapshot.path(), place.the_snapshot());

    // A log that stops before that leaves nothing.
    node.apply_unsynced(log.take(10)).await;
    let mut builder = node.machine.get_snapshot_builder().await;
    let building = tokio::spawn(async move { builder.build_snapshot().await });
    drop(node.synced);
    assert!(building.await.unwrap().is_err());
    assert_eq!(place.the_snapshot(), built.snapshot.path());
}

/// Entries are applied while the snapshot is built; it has none of them.
#[tokio::test]
async fn a_snapshot_of_200_000_leases_is_built_while_applies_go_on() {
    const LEASES: usize = 200_000;
    let place = Place::without_sled();
    let mut log = Log::new(14);
    let mut node = place.start(0, 0).unwrap();
    node.apply(log.take(2)).await;
    for _ in 0..LEASES / 1000 {
        node.apply((0..1000).map(|_| log.lease()).collect()).await;
    }
    let before = node.state();
    let mut builder = node.machine.get_snapshot_builder().await;
    let done = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&done);
    let building = tokio::spawn(async move {
        let built = builder.build_snapshot().await;
        ended.store(true, Ordering::SeqCst);
        built
    });
    let mut batches = 0;
    while !done.load(Ordering::SeqCst) {
        node.apply(vec![log.lease()]).await;
        batches += 1;
        // Leaves the one thread of this test to the builder's wake-ups.
        tokio::task::yield_now().await;
    }
    assert!(batches > 100, "applied {batches} batches meanwhile");
    let built = building.await.unwrap().unwrap();
    assert_eq!(built.meta.last_log_id, at(LEASES as u64 + 2));
    let leases = node.machine.handle().read(LockTable::live_leases);
    assert_eq!(leases, LEASES + batches);

    let there = Place::without_sled();
    let mut other = there.start(0, 0).unwrap();
    install(&mut other, &built.snapshot).await;
    assert_eq!(other.state(), before);
}

/// Not one bit of a snapshot may be wrong: neither on the way nor on the disk.
#[tokio::test]
async fn every_flipped_bit_is_found() {
    let place = Place::without_sled();
    let mut node = place.start(0, 0).unwrap();
    node.apply(Log::new(15).take(30)).await;
    let snapshot = node.build_snapshot().await;
    let whole = bytes(&snapshot).await;
    let path = place.the_snapshot();
    drop(node);

    let there = Place::without_sled();
    let other = there.start(0, 0).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // The receiver and the start share one check; the start is tried at a part of them.
        if bit % 97 == 0 {
            let refused = receive(&other, &flipped).await;
            assert!(
                matches!(refused, Err(SnapshotError::Damaged { .. })),
                "bit {bit}"
            );
            std::fs::write(&path, &flipped).unwrap();
            let mut node = place.start(30, 0).unwrap();
            assert_eq!(node.applied().await, 0, "bit {bit}");
            assert!(node.machine.get_current_snapshot().await.unwrap().is_none());
            assert_eq!(place.snapshots(), ["damaged"]);
        }
    }
    for len in (0..whole.len()).step_by(7) {
        let cut = receive(&other, &whole[..len]).await;
        assert!(
            matches!(cut, Err(SnapshotError::Damaged { .. })),
            "{len} bytes"
        );
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(receive(&other, &longer).await.is_err());
    assert!(there.snapshots().is_empty(), "nothing is left behind");
    assert!(receive(&other, &whole).await.is_ok());
}

#[tokio::test]
async fn a_damaged_snapshot_is_no_loss_where_the_checkpoint_reaches_further() {
    let place = Place::without_sled();
    let mut log = Log::new(16);
    let mut node = place.start(0, 0).unwrap();
    node.apply(log.take(100)).await;
    node.build_snapshot().await;
    node.apply(log.take(100)).await;
    node.checkpointer.step().unwrap();
    drop(node);
    std::fs::write(place.the_snapshot(), b"rot").unwrap();
    let mut node = place.start(200, 100).unwrap();
    assert_eq!(node.applied().await, 200);
    assert_eq!(node.state(), model(16, 200).await);
    // openraft asks for another at once.
    node.build_snapshot().await;
    assert_eq!(place.snapshots().len(), 2, "and the damaged one beside it");
}

#[tokio::test]
async fn leftovers_of_a_crash_go_at_the_next_start() {
    let place = Place::without_sled();
    std::fs::write(place.snapshot().join("building-1.tmp"), b"half").unwrap();
    std::fs::write(place.snapshot().join("receiving-2.tmp"), b"half").unwrap();
    let mut node = place.start(0, 0).unwrap();
    assert!(place.snapshots().is_empty());
    node.apply(Log::new(17).take(10)).await;
    // What is received and never installed goes with its owner.
    let whole = bytes(&node.build_snapshot().await).await;
    let received = receive(&node, &whole).await.unwrap();
    assert_eq!(place.snapshots().len(), 2);
    drop(received);
    assert_eq!(place.snapshots().len(), 1);
}

#[tokio::test]
async fn a_snapshot_that_is_not_what_its_meta_says_is_not_installed() {
    let place = Place::without_sled();
    let mut node = place.start(0, 0).unwrap();
    node.apply(Log::new(18).take(10)).await;
    let whole = bytes(&node.build_snapshot().await).await;
    let there = Place::without_sled();
    let mut other = there.start(0, 0).unwrap();
    let received = receive(&other, &whole).await.unwrap();
    let mut meta = received.snapshot_meta();
    meta.last_log_id = Some(LogId::new_term_index(3, 11));
    let refused = other.machine.install_snapshot(&meta, received).await;
    assert!(refused.is_err());
    assert_eq!(other.applied().await, 0);
    assert!(there.snapshots().is_empty());
}
