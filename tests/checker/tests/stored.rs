//! A log as a node leaves it is read back whole, and so is its table.
#![allow(clippy::unwrap_used)]

mod story;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use evermind_checker::Check;
use evermind_checker::committed::{Committed, NodeLog};
use evermind_checker::history::Ask;
use evermind_checker::stored::{StoredNode, TableState};
use evermind_lock::table::Pieces;
use evermind_storage::disk::sim::SimDisk;
use evermind_storage::disk::{Disk, write_all_at};
use evermind_storage::entry::EntryRecord;
use evermind_storage::log::{LogOptions, LogStore, archive};
use evermind_storage::machine::{LogExtent, Machine, MachineOptions, MemoryTables, Nobody, Step};
use evermind_storage::runner::{Tasks, Threads};
use evermind_storage::types::{Entry, LogId, TypeConfig};
use futures_util::stream;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::type_config::TypeConfigExt;
use story::{Story, acquire};
use tokio::sync::watch;

const NODE: &str = "/node";
const ARCHIVE: &str = "/archive";

fn log_dir() -> PathBuf {
    Path::new(NODE).join("log")
}

/// Segments of a few entries each.
const SMALL: LogOptions = LogOptions {
    segment_bytes: 8 << 10,
    frame_bytes_max: 3 << 10,
    cache_bytes_max: 300,
};

fn run<F: Future>(test: F) -> F::Output {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.build().unwrap().block_on(test)
}

fn open(disk: &SimDisk) -> LogStore {
    LogStore::open(&log_dir(), Arc::new(disk.clone()), Arc::new(Tasks), SMALL).unwrap()
}

async fn append(log: &mut LogStore, record: &EntryRecord) {
    let (tell, told) = TypeConfig::oneshot();
    let entries = vec![Entry::from(record.clone())];
    log.append(entries, IOFlushed::signal(tell)).await.unwrap();
    told.await.unwrap().unwrap();
}

/// What a poller does that links each segment before it is purged.
fn keep(disk: &SimDisk) {
    let to = Path::new(ARCHIVE);
    disk.create_dir_all(to).unwrap();
    for path in archive::segments(disk, &log_dir()).unwrap() {
        let kept = to.join(path.file_name().unwrap());
        if disk.exists(&kept).unwrap() {
            disk.remove(&kept).unwrap();
        }
        let file = disk.create(&kept).unwrap();
        write_all_at(&*file, &disk.contents(&path), 0).unwrap();
    }
}

fn read(node: u64, disk: &SimDisk) -> NodeLog {
    NodeLog::read(node, disk, &[Path::new(ARCHIVE), &log_dir()]).unwrap()
}

/// Two hundred acquisitions of three locks, some of which wait.
fn long_story() -> Story {
    let mut story = Story::new();
    for number in 0..200 {
        let key = format!("k{}", number % 3);
        let uuid = format!("u{number}");
        story.ask(&key, &uuid, acquire(700));
        story.wait(number % 7 * 20);
        if number % 2 == 0 {
            story.ask(&key, &uuid, Ask::Release);
        }
    }
    story.end();
    story
}

fn id(record: &EntryRecord) -> LogId {
    LogId::new_term_index(record.term, record.index)
}

#[test]
fn a_purged_log_is_whole_with_its_archive_and_witnesses_its_history() {
    let story = long_story();
    let disk = SimDisk::default();
    let log = run(async {
        let mut log = open(&disk);
        for (number, record) in story.entries.iter().enumerate() {
            if number == 100 {
                // A leader that was not one: what it had is overwritten.
                let mut stray = record.clone();
                stray.term = 1;
                append(&mut log, &stray).await;
                log.truncate_after(Some(id(&story.entries[number - 1])))
                    .await
                    .unwrap();
            }
            append(&mut log, record).await;
            if number % 50 == 49 {
                keep(&disk);
                log.purge(id(&story.entries[number - 20])).await.unwrap();
            }
        }
        read(1, &disk)
    });
    assert!(log.reach.purged.is_some());
    assert!(
        archive::segments(&disk, &log_dir()).unwrap().len()
            < archive::segments(&disk, Path::new(ARCHIVE)).unwrap().len()
    );
    let last = story.next() - 1;
    let committed = Committed::merge(&[log], last).unwrap();
    assert_eq!(committed.len() as u64, story.next());
    let witnessed = evermind_checker::witness::check_witness(
        &story.history,
        &committed,
        evermind_checker::ClockBound::EXACT,
        &story.ends(),
    );
    witnessed.assert_clean();
}

#[test]
fn w5_logs_that_differ_have_a_gap_or_took_back_what_was_committed() {
    let story = long_story();
    let last = story.next() - 1;
    let log = |node| NodeLog::of(node, story.entries.clone());
    Committed::merge(&[log(1), log(2)], last).unwrap();

    let mut other = story.entries.clone();
    other[57].term = 1;
    let merged = Committed::merge(&[log(1), NodeLog::of(2, other)], last);
    let violation = merged.unwrap_err();
    assert_eq!(violation.check, Check::W5);
    assert!(violation.what.contains("entry 57"), "{violation}");

    let mut gap = story.entries.clone();
    gap.remove(30);
    let gap = NodeLog::of(3, gap);
    // Another log has what one lacks.
    Committed::merge(&[gap.clone(), log(1)], last).unwrap();
    let violation = Committed::merge(&[gap], last).unwrap_err();
    assert!(violation.what.contains("entry 30"), "{violation}");

    let disk = SimDisk::default();
    let back = run(async {
        let mut log = open(&disk);
        for record in &story.entries[..20] {
            if record.index == 19 {
                let committed = Some(id(&story.entries[15]));
                log.save_committed(committed).await.unwrap();
            }
            append(&mut log, record).await;
        }
        log.truncate_after(Some(id(&story.entries[9])))
            .await
            .unwrap();
        for record in &story.entries[10..20] {
            append(&mut log, record).await;
        }
        read(4, &disk)
    });
    let violation = Committed::merge(&[back], 19).unwrap_err();
    assert!(violation.what.contains("entry 10"), "{violation}");
}

#[test]
fn what_a_snapshot_replaced_counts_no_more() {
    let story = long_story();
    let disk = SimDisk::default();
    let log = run(async {
        let mut log = open(&disk);
        for record in &story.entries[..10] {
            append(&mut log, record).await;
        }
        // Never committed, and never cut: a snapshot came instead.
        let mut stray = story.entries[10].clone();
        stray.term = 1;
        log.save_committed(Some(id(&story.entries[9])))
            .await
            .unwrap();
        append(&mut log, &stray).await;
        log.purge(id(&story.entries[40])).await.unwrap();
        for record in &story.entries[41..] {
            append(&mut log, record).await;
        }
        read(1, &disk)
    });
    assert_eq!((log.entry(9).is_some(), log.entry(10)), (true, None));
    let whole = NodeLog::of(2, story.entries.clone());
    Committed::merge(&[log, whole], story.next() - 1).unwrap();
}

#[test]
fn a_stored_table_is_what_the_log_makes() {
    let story = long_story();
    let disk = SimDisk::default();
    let tables = MemoryTables::default();
    let committed = story.committed();
    let stored = run(async {
        let mut log = open(&disk);
        for record in &story.entries {
            append(&mut log, record).await;
        }
        let snapshots = Path::new(NODE).join("snapshot");
        disk.create_dir_all(&snapshots).unwrap();
        let last = story.entries.last().map(id);
        let (_synced, watched) = watch::channel(last);
        let (mut machine, mut checkpointer) = Machine::open(MachineOptions {
            disk: Arc::new(disk.clone()),
            runner: Arc::new(Threads),
            tables: Arc::new(tables.clone()),
            table_dir: Path::new(NODE).join("table"),
            snapshot_dir: snapshots,
            log: LogExtent { last, purged: None },
            synced: watched,
            observer: Arc::new(Nobody),
            pieces: Pieces::default(),
        })
        .unwrap();
        // The checkpoint lags behind the log.
        let applied = story.entries[..150].iter().cloned();
        let applied = applied.map(|record| Ok((Entry::from(record), None)));
        machine.apply(stream::iter(applied)).await.unwrap();
        assert!(matches!(checkpointer.step(), Ok(Step::Written { .. })));
        log.purge(id(&story.entries[120])).await.unwrap();
        StoredNode {
            disk: Arc::new(disk.fork()),
            tables: Arc::new(tables),
            runner: Arc::new(Threads),
            dir: Path::new(NODE),
        }
        .open(&committed)
        .unwrap()
    });
    assert_eq!(stored, TableState::replay(&committed));
    assert_eq!(stored, story.ends().tables[&1]);
    assert!(!stored.held.is_empty());
}
