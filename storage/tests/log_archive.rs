//! What segments say can be read without opening their log.
#![allow(clippy::unwrap_used)]

mod log_support;

use std::path::PathBuf;

use evermind_storage::disk::sim::SimDisk;
use evermind_storage::disk::{Disk, write_all_at};
use evermind_storage::log::archive::{Said, read, segments};
use log_support::{append_synced, dir, entry, id, open, run};
use openraft::storage::RaftLogStorage;

fn indexes(disk: &SimDisk, paths: &[PathBuf]) -> Vec<u64> {
    let mut found = Vec::new();
    read(disk, paths, |said| {
        if let Said::Entry(entry) = said {
            found.push(entry.log_id.index);
        }
    })
    .unwrap();
    found
}

/// Keeps a segment beside the log, as whoever archives would.
fn keep(disk: &SimDisk, path: &std::path::Path) -> PathBuf {
    let archive = PathBuf::from("/archive");
    disk.create_dir_all(&archive).unwrap();
    let kept = archive.join(path.file_name().unwrap());
    let file = disk.create(&kept).unwrap();
    write_all_at(&*file, &disk.contents(path), 0).unwrap();
    kept
}

#[test]
fn segments_that_were_purged_are_read_with_those_in_place() {
    let disk = SimDisk::default();
    run(async {
        let mut log = open(&disk).unwrap();
        for index in 0..200 {
            append_synced(&mut log, vec![entry(1, index, 100)])
                .await
                .unwrap();
        }
        let before = segments(&disk, &dir()).unwrap();
        assert!(before.len() > 3, "the log rolled over: {before:?}");
        let kept: Vec<_> = before.iter().map(|path| keep(&disk, path)).collect();
        log.purge(id(1, 150)).await.unwrap();
        for index in 200..220 {
            append_synced(&mut log, vec![entry(1, index, 100)])
                .await
                .unwrap();
        }
        let live = segments(&disk, &dir()).unwrap();
        assert!(live.len() < before.len(), "the oldest are gone");
        let both = [kept, live].concat();
        assert_eq!(indexes(&disk, &both), (0..220).collect::<Vec<_>>());
    });
}

#[test]
fn a_log_in_use_is_read_and_left_as_it_is() {
    let disk = SimDisk::default();
    run(async {
        let mut log = open(&disk).unwrap();
        append_synced(&mut log, vec![entry(1, 0, 100), entry(1, 1, 100)])
            .await
            .unwrap();
        log.truncate_after(Some(id(1, 0))).await.unwrap();
        append_synced(&mut log, vec![entry(2, 1, 100)])
            .await
            .unwrap();
        let paths = segments(&disk, &dir()).unwrap();
        let before = disk.contents(&paths[0]);
        let mut said = Vec::new();
        let reach = read(&disk, &paths, |what| said.push(what)).unwrap();
        assert_eq!(reach.last, Some(id(2, 1).into()));
        assert_eq!(reach.stopped, None);
        assert!(said.contains(&Said::Truncated(Some(id(1, 0).into()))));
        assert_eq!(disk.contents(&paths[0]), before);
    });
}

#[test]
fn a_missing_segment_is_told() {
    let disk = SimDisk::default();
    run(async {
        let mut log = open(&disk).unwrap();
        for index in 0..200 {
            append_synced(&mut log, vec![entry(1, index, 100)])
                .await
                .unwrap();
        }
        let mut paths = segments(&disk, &dir()).unwrap();
        paths.remove(1);
        assert!(read(&disk, &paths, |_| {}).is_err());
    });
}
