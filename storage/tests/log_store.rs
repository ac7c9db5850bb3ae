//! What the log promises beside keeping what it acknowledged.
#![allow(clippy::unwrap_used)]

mod log_support;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use evermind_storage::disk::sim::{Op, SimDisk};
use evermind_storage::log::{LogOptions, LogStore};
use evermind_storage::runner::Threads;
use evermind_storage::types::Vote;
use futures_util::{FutureExt, StreamExt};
use log_support::{
    append, append_synced, dir, entries, entry, id, open, open_with, run, segments, small,
};
use openraft::storage::{RaftLogReader, RaftLogStorage};

/// Counts the calls of one kind from now on.
fn count(disk: &SimDisk, op: Op) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    disk.on_call(move |call| {
        if call.op == op && call.path.extension().is_some_and(|suffix| suffix == "log") {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    count
}

async fn filled(disk: &SimDisk, entries: u64) -> LogStore {
    let mut log = open(disk).unwrap();
    for index in 0..entries {
        append_synced(&mut log, vec![entry(1, index, 700)])
            .await
            .unwrap();
    }
    log
}

#[test]
fn what_is_queued_together_takes_one_write_and_one_sync() {
    run(async {
        let disk = SimDisk::default();
        let options = LogOptions {
            segment_bytes: 256 << 10,
            ..LogOptions::default()
        };
        let mut log = open_with(&disk, options).unwrap();
        tokio::task::yield_now().await;
        let (syncs, calls) = (count(&disk, Op::SyncData), disk.calls());
        let mut waiting = Vec::new();
        for index in 0..100 {
            waiting.push(append(&mut log, vec![entry(1, index, 50)]).await.unwrap());
        }
        for told in waiting {
            told.await.unwrap().unwrap();
        }
        assert_eq!(syncs.load(Ordering::Relaxed), 1);
        assert_eq!(disk.calls() - calls, 2, "a write and a sync");
    });
}

#[test]
fn the_committed_point_goes_with_the_next_batch_and_never_alone() {
    run(async {
        let disk = SimDisk::default();
        let mut log = filled(&disk, 3).await;
        let calls = disk.calls();
        log.save_committed(Some(id(1, 1))).await.unwrap();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(disk.calls(), calls);
        assert_eq!(log.read_committed().await.unwrap(), Some(id(1, 1)));
        append_synced(&mut log, vec![entry(1, 3, 0)]).await.unwrap();
        let mut log = open(&disk.power_cut(1)).unwrap();
        assert_eq!(log.read_committed().await.unwrap(), Some(id(1, 1)));
    });
}

#[test]
fn a_purge_removes_whole_segments_and_is_remembered() {
    run(async {
        let disk = SimDisk::default();
        let mut log = filled(&disk, 60).await;
        let (before, bytes) = (segments(&disk), log.bytes_on_disk());
        log.purge(id(1, 40)).await.unwrap();
        append_synced(&mut log, vec![entry(1, 60, 0)])
            .await
            .unwrap();
        log.shutdown().await;
        let after = segments(&disk);
        assert!(after.len() < before.len() && before.ends_with(&after));
        assert!(log.bytes_on_disk() < bytes);

        let mut log = open(&disk.power_cut(3)).unwrap();
        assert_eq!(log.recovered().purged, Some(id(1, 40)));
        let kept = entries(&mut log).await.unwrap();
        assert_eq!(kept.first().unwrap().log_id, id(1, 41));
        assert_eq!(kept.last().unwrap().log_id, id(1, 60));
    });
}

#[test]
fn a_purge_past_the_end_leaves_an_empty_log_that_goes_on_behind_it() {
    run(async {
        let disk = SimDisk::default();
        let mut log = filled(&disk, 20).await;
        log.purge(id(3, 99)).await.unwrap();
        let told = append(&mut log, vec![entry(3, 50, 0)]).await;
        assert_eq!(told.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        append_synced(&mut log, vec![entry(3, 100, 0)])
            .await
            .unwrap();
        log.shutdown().await;
        assert_eq!(segments(&disk).len(), 1);
        let mut log = open(&disk.kill()).unwrap();
        assert_eq!(log.recovered().last, Some(id(3, 100)));
        assert_eq!(entries(&mut log).await.unwrap(), [entry(3, 100, 0)]);
    });
}

#[test]
fn a_truncation_is_on_disk_when_it_returns_even_across_segments() {
    run(async {
        for after in [None, Some(0), Some(5), Some(38)] {
            let disk = SimDisk::default();
            let mut log = filled(&disk, 40).await;
            log.truncate_after(after.map(|index| id(1, index)))
                .await
                .unwrap();
            let mut log = open(&disk.power_cut(5)).unwrap();
            let next = after.map_or(0, |index| index + 1);
            assert_eq!(log.recovered().last, after.map(|index| id(1, index)));
            append_synced(&mut log, vec![entry(2, next, 0)])
                .await
                .unwrap();

            let mut log = open(&disk.power_cut(6).kill()).unwrap();
            let kept = entries(&mut log).await.unwrap();
            assert_eq!(kept.len() as u64, next + 1);
            assert_eq!(kept.last().unwrap().log_id, id(2, next));
        }
    });
}

#[test]
fn a_vote_is_on_disk_when_it_returns() {
    run(async {
        let mut disk = SimDisk::default();
        for term in 1..20 {
            let mut log = open(&disk).unwrap();
            log.save_vote(&Vote::new_committed(term, 2)).await.unwrap();
            disk = disk.power_cut(term);
            let mut reader = open(&disk).unwrap().get_log_reader().await;
            let vote = reader.read_vote().await.unwrap();
            assert_eq!(vote, Some(Vote::new_committed(term, 2)));
            disk = disk.kill();
        }
    });
}

#[test]
fn old_entries_are_read_from_disk_in_bounded_steps() {
    run(async {
        let disk = SimDisk::default();
        let options = LogOptions {
            segment_bytes: 1 << 20,
            ..small()
        };
        let mut log = open_with(&disk, options).unwrap();
        let all: Vec<_> = (0..1500).map(|index| entry(1, index, 2900)).collect();
        for batch in all.chunks(100) {
            append_synced(&mut log, batch.to_vec()).await.unwrap();
        }
        log.shutdown().await;
        let mut log = open_with(&disk.kill(), options).unwrap();
        let mut reader = log.get_log_reader().await;
        let limited = reader.limited_get_log_entries(0, 1500).await.unwrap();
        assert!(limited.len() < 1500 && limited == all[..limited.len()]);
        let stream = reader.entries_stream(0..1500).await;
        let read: Vec<_> = stream.map(Result::unwrap).collect().await;
        assert!(read == all);
        assert!(entries(&mut log).await.unwrap() == all);
    });
}

#[test]
fn last_synced_follows_the_disk_and_not_the_queue() {
    run(async {
        let disk = SimDisk::default();
        let mut log = filled(&disk, 1).await;
        let mut watch = log.watch_synced();
        watch.mark_unchanged();
        let told = append(&mut log, vec![entry(1, 1, 0)]).await.unwrap();
        assert_eq!(
            log.get_log_state().await.unwrap().last_log_id,
            Some(id(1, 1))
        );
        assert_eq!(log.last_synced(), Some(id(1, 0)));
        told.await.unwrap().unwrap();
        assert!(watch.has_changed().unwrap());
        assert_eq!(log.last_synced(), Some(id(1, 1)));
        drop(log);
        assert_eq!(open(&disk.kill()).unwrap().last_synced(), Some(id(1, 1)));
    });
}

#[test]
fn bytes_since_counts_the_frames_above_an_index() {
    run(async {
        let disk = SimDisk::default();
        let log = filled(&disk, 30).await;
        assert_eq!(log.bytes_since(29), 0);
        // One entry of 700 bytes is a frame of two sectors.
        assert_eq!(log.bytes_since(28), 1024);
        let counted = (0..30)
            .map(|index| log.bytes_since(index))
            .collect::<Vec<_>>();
        assert!(counted.is_sorted_by(|a, b| a > b));
        drop(log);
        let log = open(&disk.kill()).unwrap();
        assert_eq!(
            (0..30).map(|i| log.bytes_since(i)).collect::<Vec<_>>(),
            counted
        );
    });
}

#[test]
fn what_the_log_cannot_hold_is_refused_and_changes_nothing() {
    run(async {
        let disk = SimDisk::default();
        let mut log = filled(&disk, 2).await;
        for wrong in [entry(1, 3, 0), entry(1, 1, 0), entry(1, 2, 4000)] {
            let batch = vec![wrong];
            let error = append(&mut log, batch).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        append_synced(&mut log, vec![entry(1, 2, 0)]).await.unwrap();
        assert!(log.failed().now_or_never().is_none());
    });
}

#[test]
fn after_shutdown_everything_is_on_disk_and_nothing_more_is_taken() {
    run(async {
        let disk = SimDisk::default();
        let mut log = filled(&disk, 2).await;
        let told = append(&mut log, vec![entry(1, 2, 0)]).await.unwrap();
        log.shutdown().await;
        told.await.unwrap().unwrap();
        assert!(append(&mut log, vec![entry(1, 3, 0)]).await.is_err());
        let mut log = open(&disk.power_cut(9)).unwrap();
        assert_eq!(entries(&mut log).await.unwrap().len(), 3);
    });
}

#[test]
fn segments_are_filled_ahead_of_time() {
    run(async {
        let disk = SimDisk::default();
        let log = open(&disk).unwrap();
        tokio::task::yield_now().await;
        let late = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&late);
        disk.on_call(move |call| {
            if call.op == Op::Create && call.path == dir().join("fresh.tmp") {
                seen.fetch_add(1, Ordering::Relaxed);
            }
        });
        drop(log);
        let log = filled(&disk, 60).await;
        log.shutdown().await;
        assert!(segments(&disk).len() > 5);
        assert_eq!(late.load(Ordering::Relaxed), 0);
    });
}

/// On threads, as in production: a disk that stalls holds back the acknowledgement, and nothing
/// else.
#[test]
fn a_stalled_sync_holds_back_the_callback_and_not_the_append() {
    let disk = SimDisk::default();
    let open = || LogStore::open(&dir(), Arc::new(disk.clone()), Arc::new(Threads), small());
    let mut log = open().unwrap();
    run(log.save_vote(&Vote::new(1, 1))).unwrap();
    let (stalled, is_stalled) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    let goes_on = std::sync::Mutex::new(goes_on);
    disk.on_call(move |call| {
        let segment = call.path.extension().is_some_and(|suffix| suffix == "log");
        if segment && call.op == Op::SyncData {
            stalled.send(()).unwrap();
            // An error is the test's end: the disk works again.
            let _ = goes_on.lock().unwrap().recv();
        }
    });
    run(async {
        let mut first = append(&mut log, vec![entry(1, 0, 0)]).await.unwrap();
        is_stalled.recv().unwrap();
        let second = append(&mut log, vec![entry(1, 1, 0)]).await.unwrap();
        assert_eq!(entries(&mut log).await.unwrap().len(), 2);
        assert!(first.try_recv().is_err());
        assert_eq!(log.last_synced(), None);
        drop(go_on);
        first.await.unwrap().unwrap();
        second.await.unwrap().unwrap();
        log.shutdown().await;
    });
}
