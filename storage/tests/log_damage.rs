//! What the log does with a directory that is not as it left it.
#![allow(clippy::unwrap_used)]

mod log_support;

use evermind_storage::disk::sim::SimDisk;
use evermind_storage::types::Vote;
use log_support::{append_synced, dir, entries, entry, id, open, refused, run, segments};
use openraft::storage::{RaftLogReader, RaftLogStorage};

const SECTOR: usize = 512;

/// A disk with three acknowledged batches, the last of three sectors; and where that one starts.
async fn three_batches() -> (SimDisk, usize) {
    let disk = SimDisk::default();
    let mut log = open(&disk).unwrap();
    log.save_vote(&Vote::new(1, 1)).await.unwrap();
    append_synced(&mut log, vec![entry(1, 0, 0), entry(1, 1, 40)])
        .await
        .unwrap();
    let last = vec![entry(1, 2, 700), entry(1, 3, 300)];
    append_synced(&mut log, last).await.unwrap();
    log.shutdown().await;
    (disk.kill(), 3 * SECTOR)
}

#[test]
fn every_flipped_bit_of_an_acknowledged_batch_is_refused() {
    run(async {
        let (disk, start) = three_batches().await;
        let [file] = segments(&disk).try_into().unwrap();
        let sound = disk.contents(&file);
        assert!(sound[start + 3 * SECTOR..].iter().all(|byte| *byte == 0));
        // The whole file up to the end of the last batch: the head, and every batch.
        for bit in 0..(start + 3 * SECTOR) * 8 {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let disk = disk.fork();
            disk.set_contents(&file, bytes.clone());
            assert!(refused(open(&disk), &file), "bit {bit} flipped");
            assert_eq!(disk.contents(&file), bytes, "a refusal changes nothing");
        }
    });
}

/// Of a sector with no payload but zeros only the marker tells that it was written.
#[test]
fn a_flipped_bit_of_a_sector_that_holds_only_its_marker_is_refused() {
    run(async {
        for bytes in 400..500 {
            let disk = SimDisk::default();
            let mut log = open(&disk).unwrap();
            let batch = vec![entry(1, 0, bytes), entry(1, 1, 0)];
            append_synced(&mut log, batch).await.unwrap();
            log.shutdown().await;
            let disk = disk.kill();
            let [file] = segments(&disk).try_into().unwrap();
            let sound = disk.contents(&file);
            let marker = 2 * SECTOR;
            let alone = sound[marker + 1..].iter().all(|byte| *byte == 0);
            if sound[marker] == 0 || !alone {
                continue;
            }
            for bit in 0..8 {
                let disk = disk.fork();
                let mut bytes = sound.clone();
                bytes[marker] ^= 1 << bit;
                disk.set_contents(&file, bytes);
                assert!(refused(open(&disk), &file), "bit {bit} flipped");
            }
            return;
        }
        panic!("no batch ends with a sector of zeros");
    });
}

#[test]
fn a_flipped_bit_past_the_end_is_refused() {
    run(async {
        let (disk, start) = three_batches().await;
        let [file] = segments(&disk).try_into().unwrap();
        let sound = disk.contents(&file);
        for bit in ((start + 3 * SECTOR) * 8..(start + 5 * SECTOR) * 8).step_by(5) {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let disk = disk.fork();
            disk.set_contents(&file, bytes);
            assert!(refused(open(&disk), &file), "bit {bit} flipped");
        }
    });
}

/// The last batch was never acknowledged: any of its sectors may be missing.
#[test]
fn a_torn_batch_is_cut_whichever_sectors_of_it_are_missing() {
    run(async {
        let (disk, start) = three_batches().await;
        let [file] = segments(&disk).try_into().unwrap();
        let whole = disk.contents(&file);
        for missing in 0..8_usize {
            let disk = disk.fork();
            let mut bytes = whole.clone();
            for sector in (0..3).filter(|sector| missing >> sector & 1 == 1) {
                bytes[start + sector * SECTOR..][..SECTOR].fill(0);
            }
            disk.set_contents(&file, bytes);
            let mut log = open(&disk).unwrap();
            let kept = entries(&mut log).await.unwrap();
            assert_eq!(kept.len(), if missing == 0 { 4 } else { 2 });
            // A frame of which nothing is there was never begun.
            assert_eq!(log.recovered().torn, ![0, 7].contains(&missing));
            let vote = log.get_log_reader().await.read_vote().await.unwrap();
            assert_eq!(vote, Some(Vote::new(1, 1)));

            // And the log goes on from there, for good.
            let next = kept.len() as u64;
            append_synced(&mut log, vec![entry(2, next, 600)])
                .await
                .unwrap();
            drop(log);
            let mut log = open(&disk.power_cut(7)).unwrap();
            let kept = entries(&mut log).await.unwrap();
            assert_eq!(kept.last().unwrap().log_id, id(2, next));
        }
    });
}

/// The tail is zero from any byte on. Between sectors that is a torn write; within the last sector
/// it is none that a disk makes, and is refused; either way what is acknowledged stays.
#[test]
fn no_tail_that_is_zero_from_some_byte_on_loses_what_was_acknowledged() {
    run(async {
        let (disk, start) = three_batches().await;
        let [file] = segments(&disk).try_into().unwrap();
        let whole = disk.contents(&file);
        for end in start..start + 3 * SECTOR {
            let disk = disk.fork();
            let mut bytes = whole.clone();
            bytes[end..].fill(0);
            let changed = bytes != whole;
            disk.set_contents(&file, bytes);
            match open(&disk) {
                Ok(mut log) => {
                    let kept = entries(&mut log).await.unwrap().len();
                    assert_eq!(kept, if changed { 2 } else { 4 }, "zero from byte {end}");
                }
                Err(_) => assert!(end % SECTOR != 0, "zero from byte {end}"),
            }
        }
    });
}

#[test]
fn a_segment_of_the_wrong_length_is_refused() {
    run(async {
        let (disk, _) = three_batches().await;
        let [file] = segments(&disk).try_into().unwrap();
        let whole = disk.contents(&file);
        for length in (0..whole.len()).step_by(100).chain([whole.len() + 512]) {
            let disk = disk.fork();
            let mut bytes = whole.clone();
            bytes.resize(length, 0);
            disk.set_contents(&file, bytes);
            assert!(refused(open(&disk), &file), "{length} bytes");
        }
    });
}

/// A disk whose log spans five segments at least.
async fn many_segments() -> SimDisk {
    let disk = SimDisk::default();
    let mut log = open(&disk).unwrap();
    for index in 0..40 {
        append_synced(&mut log, vec![entry(1, index, 700)])
            .await
            .unwrap();
    }
    log.shutdown().await;
    let disk = disk.kill();
    assert!(segments(&disk).len() >= 5);
    disk
}

#[test]
fn a_missing_segment_is_refused_and_named() {
    run(async {
        let disk = many_segments().await;
        let all = segments(&disk);
        for (place, file) in all[..all.len() - 1].iter().enumerate() {
            let disk = disk.fork();
            evermind_storage::disk::Disk::remove(&disk, file).unwrap();
            let named = if place == 0 { &all[1] } else { file };
            assert!(refused(open(&disk), named), "{} is gone", file.display());
        }
    });
}

/// What a refusal leaves behind is all that is left to mend the log from: the tail of a torn batch,
/// and the file that a crash left while the log was opened before.
#[test]
fn a_log_whose_oldest_segment_is_missing_is_refused_before_anything_is_written() {
    run(async {
        let disk = many_segments().await;
        let all = segments(&disk);
        let last = all.last().unwrap();
        let mut bytes = disk.contents(last);
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() / SECTOR * SECTOR;
        bytes[end..end + SECTOR].fill(0);
        disk.set_contents(last, bytes);
        let torn = open(&disk.fork()).unwrap();
        assert!(torn.recovered().torn, "else the last segment is as it was");

        evermind_storage::disk::Disk::remove(&disk, &all[0]).unwrap();
        let left_over = dir().join("rewritten.tmp");
        evermind_storage::disk::Disk::create(&disk, &left_over).unwrap();
        let found = contents(&disk);
        assert!(refused(open(&disk), &all[1]));
        assert_eq!(contents(&disk), found, "a refusal changes nothing");
    });
}

/// Every file of a disk, with what is in it.
fn contents(disk: &SimDisk) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = disk.files().into_iter();
    files
        .map(|file| (file.clone(), disk.contents(&file)))
        .collect()
}

#[test]
fn a_torn_batch_in_any_but_the_last_segment_is_refused() {
    run(async {
        let disk = many_segments().await;
        let all = segments(&disk);
        for file in &all[..all.len() - 1] {
            let whole = disk.contents(file);
            let written = whole.iter().rposition(|byte| *byte != 0).unwrap();
            let last_sector = written / SECTOR * SECTOR;
            for cut in [last_sector, last_sector - SECTOR] {
                let disk = disk.fork();
                let mut bytes = whole.clone();
                bytes[cut..].fill(0);
                disk.set_contents(file, bytes);
                let next = &all[all.iter().position(|name| name == file).unwrap() + 1];
                let opened = open(&disk);
                let message = opened.as_ref().err().unwrap().to_string();
                // A whole frame gone shows in the head that follows.
                assert!(
                    message.contains(&file.display().to_string())
                        || message.contains(&next.display().to_string()),
                    "{message}"
                );
                assert!(message.contains("leave this node off"), "{message}");
            }
        }
    });
}

#[test]
fn files_of_other_names_are_left_alone() {
    run(async {
        let disk = many_segments().await;
        evermind_storage::disk::Disk::create(&disk, &dir().join("note")).unwrap();
        let mut log = open(&disk).unwrap();
        assert_eq!(entries(&mut log).await.unwrap().len(), 40);
        assert!(disk.files().contains(&dir().join("note")));
    });
}
