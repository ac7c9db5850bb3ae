//! What a start makes of what it finds.

use std::path::Path;
use std::sync::Arc;

use evermind_storage::machine::{OpenError, SledTables, Step, TableEngine, TableStore};

use super::support::{Log, Node, Place, model};

/// A node that has a snapshot at 300 and a checkpoint at 500, of a log of 600 purged up to 250.
async fn lived_in(place: &Place) {
    let mut log = Log::new(9);
    let mut node = place.start(0, 0).unwrap();
    node.apply(log.take(300)).await;
    node.build_snapshot().await;
    node.apply(log.take(200)).await;
    assert!(matches!(
        node.checkpointer.step().unwrap(),
        Step::Written { .. }
    ));
    node.apply(log.take(100)).await;
}

/// The table that a node left, to be changed behind its back.
fn kept_table(place: &Place) -> Box<dyn TableStore> {
    SledTables.open(&place.table()).unwrap()
}

/// Applies the rest of the log, as openraft does at a start.
async fn catch_up(node: &mut Node) {
    let applied = usize::try_from(node.applied().await).unwrap();
    node.apply(Log::new(9).take(600).split_off(applied)).await;
}

async fn rebuilt_from_the_snapshot(place: &Place) {
    let mut node = place.start(600, 250).unwrap();
    assert_eq!(node.applied().await, 300, "the snapshot was used");
    catch_up(&mut node).await;
    let expected = model(9, 600).await;
    assert_eq!(node.state(), expected);
    // The new checkpoint is whole, and good for the next start.
    let step = node.checkpointer.step().unwrap();
    assert!(
        matches!(step, Step::Written { whole: true, .. }),
        "{step:?}"
    );
    drop(node);
    let mut node = place.start(600, 250).unwrap();
    assert_eq!(node.applied().await, 600);
    assert_eq!(node.state(), expected);
}

#[tokio::test]
async fn the_newer_of_checkpoint_and_snapshot_is_used() {
    let place = Place::real();
    lived_in(&place).await;
    let mut node = place.start(600, 250).unwrap();
    assert_eq!(node.applied().await, 500);
    catch_up(&mut node).await;
    node.build_snapshot().await;
    drop(node);
    let mut node = place.start(600, 250).unwrap();
    assert_eq!(node.applied().await, 600);
    assert_eq!(node.state(), model(9, 600).await);
}

#[tokio::test]
async fn a_deleted_table_is_rebuilt() {
    let place = Place::real();
    lived_in(&place).await;
    std::fs::remove_dir_all(place.table()).unwrap();
    rebuilt_from_the_snapshot(&place).await;
}

/// A release build ends at sled's panic, and the next start finds the mark. Where panics unwind,
/// the mark is found the same way.
#[tokio::test]
async fn a_table_full_of_garbage_is_rebuilt() {
    let place = Place::real();
    lived_in(&place).await;
    fill_with_garbage(&place.table());
    let first = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        place.start(600, 250).map(drop)
    }));
    match first {
        Ok(opened) => opened.unwrap(),
        Err(_) => assert!(place.path.join("table.opening").exists()),
    }
    rebuilt_from_the_snapshot(&place).await;
    assert!(place.path.join("table.broken-1").exists());
}

fn fill_with_garbage(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let len = std::fs::metadata(&path).unwrap().len();
            let len = usize::try_from(len).unwrap().max(64);
            std::fs::write(&path, vec![0xa5; len]).unwrap();
        }
    }
}

#[tokio::test]
async fn a_mark_from_an_opening_that_did_not_end_puts_the_table_aside_unopened() {
    let place = Place::real();
    lived_in(&place).await;
    std::fs::write(place.path.join("table.opening"), b"").unwrap();
    rebuilt_from_the_snapshot(&place).await;
    assert!(place.path.join("table.broken-1").exists());
    assert!(!place.path.join("table.opening").exists());
    // Two are kept, the newest ones.
    for _ in 0..3 {
        std::fs::write(place.path.join("table.opening"), b"").unwrap();
        place.start(600, 250).unwrap();
    }
    let mut names = place.disk.list(&place.path).unwrap();
    names.retain(|name| name.starts_with("table."));
    assert_eq!(names, ["table.broken-3", "table.broken-4"]);
}

#[tokio::test]
async fn a_wrong_record_shows_in_the_digest() {
    let place = Place::real();
    lived_in(&place).await;
    let db = sled::open(place.table()).unwrap();
    let (key, value) = db.iter().last().unwrap().unwrap();
    let mut value = value.to_vec();
    *value.last_mut().unwrap() ^= 1;
    db.insert(key, value).unwrap();
    drop(db);
    rebuilt_from_the_snapshot(&place).await;
}

#[tokio::test]
async fn a_lost_record_shows_in_the_digest() {
    let place = Place::real();
    lived_in(&place).await;
    let db = sled::open(place.table()).unwrap();
    db.pop_max().unwrap().unwrap();
    drop(db);
    rebuilt_from_the_snapshot(&place).await;
}

#[tokio::test]
async fn a_checkpoint_beyond_the_log_is_refused_every_time() {
    let place = Place::real();
    lived_in(&place).await;
    for _ in 0..2 {
        let refused = place.start(450, 250).map(drop).unwrap_err();
        assert!(matches!(&refused, OpenError::LogVanished { path, .. } if *path == place.table()));
        let text = refused.to_string();
        assert!(
            text.contains("hint:") && text.contains("index 500") || text.contains("500"),
            "{text}"
        );
    }
    let refused = place.start(0, 0).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::LogVanished { .. }));
}

#[tokio::test]
async fn a_built_snapshot_beyond_the_log_is_refused_even_when_damaged() {
    let place = Place::real();
    lived_in(&place).await;
    std::fs::remove_dir_all(place.table()).unwrap();
    let path = place.the_snapshot();
    let refused = place.start(299, 250).map(drop).unwrap_err();
    assert!(matches!(&refused, OpenError::LogVanished { path: at, .. } if *at == path));
    std::fs::write(&path, b"rot").unwrap();
    for _ in 0..2 {
        let refused = place.start(299, 0).map(drop).unwrap_err();
        assert!(matches!(&refused, OpenError::LogVanished { path: at, .. } if *at == path));
    }
}

#[tokio::test]
async fn a_state_that_does_not_reach_the_log_is_refused() {
    let place = Place::real();
    lived_in(&place).await;
    std::fs::remove_dir_all(place.table()).unwrap();
    let refused = place.start(600, 301).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::StateVanished { .. }));
    place.start(600, 300).unwrap();
    std::fs::remove_file(place.the_snapshot()).unwrap();
    let refused = place.start(600, 1).map(drop).unwrap_err();
    assert!(refused.to_string().contains("hint:"), "{refused}");
    // The whole log is as good as any state.
    let mut node = place.start(600, 0).unwrap();
    assert_eq!(node.applied().await, 0);
}

/// The checkpoint of a table that came from a leader may be ahead of a log that was not purged
/// up to there yet: the installed snapshot vouches for it.
#[tokio::test]
async fn an_installed_snapshot_vouches_for_a_checkpoint_beyond_the_log() {
    let leader = Place::real();
    lived_in(&leader).await;
    let mut leader = leader.start(600, 250).unwrap();
    let snapshot = leader.build_snapshot().await;
    let upto = snapshot.snapshot_meta().last_log_id.unwrap().index;

    let place = Place::real();
    let mut node = place.start(0, 0).unwrap();
    node.apply(Log::new(9).take(100)).await;
    super::snapshot::install(&mut node, &snapshot).await;
    // Durable although this log has only 100 entries.
    let step = node.checkpointer.step().unwrap();
    assert!(
        matches!(step, Step::Written { whole: true, .. }),
        "{step:?}"
    );
    drop(node);
    let mut node = place.start(100, 0).unwrap();
    assert_eq!(node.applied().await, upto);
    assert_eq!(node.state(), leader.state());
}

/// An interrupted whole write says of itself that it covers nothing.
#[tokio::test]
async fn a_table_that_was_being_written_whole_is_not_used() {
    let place = Place::real();
    lived_in(&place).await;
    let mut store = kept_table(&place);
    let mut batch = evermind_storage::machine::Batch::default();
    batch.delete(b"\0checkpoint".to_vec());
    store.apply(batch).unwrap();
    drop(store);
    rebuilt_from_the_snapshot(&place).await;
    assert_eq!(Arc::strong_count(&place.tables), 1);
}

/// Many changes are not made at once. A crash in between leaves records of two states.
#[tokio::test]
async fn a_table_between_two_states_is_not_used_but_still_vouches_for_the_log() {
    let place = Place::real();
    lived_in(&place).await;
    let mut store = kept_table(&place);
    let covered = store.get(b"\0checkpoint").unwrap();
    assert!(covered.is_some());
    store.set(b"\0unfinished".to_vec(), covered).unwrap();
    store.set(b"\0checkpoint".to_vec(), None).unwrap();
    let (key, _) = store.scan().last().unwrap().unwrap();
    store.set(key, Some(b"of a later state".to_vec())).unwrap();
    drop(store);
    // The checkpoint reached 500: a log that ends before is not the log of this node.
    let refused = place.start(450, 250).map(drop).unwrap_err();
    assert!(
        matches!(refused, OpenError::LogVanished { .. }),
        "{refused}"
    );
    rebuilt_from_the_snapshot(&place).await;
}

/// A table that is open elsewhere is whole: it is neither used nor put aside.
#[tokio::test]
async fn a_table_in_use_is_refused_and_left_alone() {
    let place = Place::real();
    lived_in(&place).await;
    let node = place.start(600, 250).unwrap();
    let refused = place.start(600, 250).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Table { .. }), "{refused}");
    drop(node);
    let mut node = place.start(600, 250).unwrap();
    assert_eq!(node.applied().await, 500);
}
