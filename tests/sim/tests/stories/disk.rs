//! A node's disk: the time it takes, what it rots, what it loses, what it keeps for the checker.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evermind_sim::dice::Dice;
use evermind_sim::disk::{DATA_DIR, HostDisk, Pace};
use evermind_storage::disk::{Disk as _, DiskFile, write_all_at};
use evermind_storage::runner::{Bell, Flow, Runner as _};
use tokio::time::{Instant, sleep};

/// What a disk writes as a whole or not at all.
const SECTOR_BYTES: usize = 512;

fn in_log(name: &str) -> PathBuf {
    Path::new(DATA_DIR).join("log").join(name)
}

/// A disk with an empty log folder, which stays whatever happens.
fn disk(seed: u64) -> HostDisk {
    let disk = HostDisk::new(Dice::new(seed));
    let now = disk.now();
    let log = Path::new(DATA_DIR).join("log");
    now.create_dir_all(&log).unwrap();
    for dir in log.ancestors() {
        now.sync_dir(dir).unwrap();
    }
    disk
}

fn write(disk: &HostDisk, name: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.now().create(&in_log(name)).unwrap();
    write_all_at(&*file, bytes, 0).unwrap();
    file
}

fn sync(disk: &HostDisk, file: &dyn DiskFile) {
    file.sync_data().unwrap();
    disk.now()
        .sync_dir(&Path::new(DATA_DIR).join("log"))
        .unwrap();
}

fn paced(pace: Pace) -> HostDisk {
    let disk = disk(1);
    disk.set_pace(|now| *now = pace);
    disk
}

/// How long one job takes on a disk.
async fn took(disk: &HostDisk) -> Duration {
    let began = Instant::now();
    let (done, wait) = tokio::sync::oneshot::channel();
    disk.once("job", Box::new(move || done.send(began.elapsed()).unwrap()));
    wait.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_step_takes_the_paces_time() {
    let quick = Pace {
        slow_ms: 3,
        slow_per_mille: 0,
        stall_ms: 0,
    };
    assert_eq!(took(&paced(quick)).await, Duration::ZERO);
    let stalled = Pace {
        stall_ms: 2_000,
        ..quick
    };
    assert_eq!(took(&paced(stalled)).await, Duration::from_secs(2));
    let slow = paced(Pace {
        slow_per_mille: 1_000,
        ..quick
    });
    let mut seen = Vec::new();
    for _ in 0..100 {
        seen.push(took(&slow).await.as_millis());
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_driven_step_takes_it_at_every_ring_until_it_says_stop() {
    let disk = paced(Pace {
        slow_ms: 1,
        slow_per_mille: 0,
        stall_ms: 300,
    });
    let bell = Arc::new(Bell::default());
    let began = Instant::now();
    let at_ms = Arc::new(Mutex::new(Vec::new()));
    let steps = Arc::clone(&at_ms);
    let step = move || {
        let mut steps = steps.lock().unwrap();
        steps.push(began.elapsed().as_millis());
        if steps.len() == 2 {
            Flow::Stop
        } else {
            Flow::Continue
        }
    };
    disk.drive("step", Arc::clone(&bell), Box::new(step));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(*at_ms.lock().unwrap(), []);
    for _ in 0..3 {
        bell.ring();
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(*at_ms.lock().unwrap(), [1_300, 2_300]);
}

#[test]
fn rot_changes_one_bit_of_a_written_sector_of_the_newest_segment() {
    for seed in 0..50 {
        let disk = disk(seed);
        write(&disk, "00000001.log", &[0xff; SECTOR_BYTES]);
        // Written, one byte of a torn write, nothing at all, written.
        let mut bytes = vec![0; 4 * SECTOR_BYTES];
        bytes[..SECTOR_BYTES].fill(0x55);
        bytes[SECTOR_BYTES + 9] = 1;
        bytes[3 * SECTOR_BYTES..].fill(0xaa);
        write(&disk, "00000002.log", &bytes);
        write(&disk, "vote", &[0xff; SECTOR_BYTES]);

        let (path, before) = disk.rot().unwrap();
        assert_eq!((path, &before), (in_log("00000002.log"), &bytes));
        let after = disk.now().contents(&in_log("00000002.log"));
        assert_eq!(after.len(), bytes.len());
        let changed: Vec<usize> = (0..bytes.len())
            .filter(|at| after[*at] != bytes[*at])
            .collect();
        assert_eq!(changed.len(), 1, "seed {seed}");
        let at = changed[0];
        assert_eq!((after[at] ^ bytes[at]).count_ones(), 1, "seed {seed}");
        assert!(
            [0, 3].contains(&(at / SECTOR_BYTES)),
            "seed {seed}: at {at}"
        );
        let untouched = [0xff; SECTOR_BYTES];
        for other in ["00000001.log", "vote"] {
            assert_eq!(
                disk.now().contents(&in_log(other)),
                untouched,
                "seed {seed}"
            );
        }
    }
}

#[test]
fn where_nothing_was_written_nothing_rots() {
    let disk = disk(1);
    assert!(disk.rot().is_none());
    write(&disk, "vote", &[0xff; SECTOR_BYTES]);
    assert!(disk.rot().is_none());
    write(&disk, "00000001.log", &[0; 4 * SECTOR_BYTES]);
    assert!(disk.rot().is_none());
}

#[test]
fn segments_that_are_removed_are_in_the_archive() {
    let disk = disk(1);
    let remove = |name: &str| disk.now().remove(&in_log(name)).unwrap();
    write(&disk, "00000001.log", b"first");
    write(&disk, "00000002.log", b"second");
    write(&disk, "vote", b"not a segment");
    assert!(disk.archive().is_empty());
    remove("00000001.log");
    remove("vote");
    assert!(disk.now().remove(&in_log("00000009.log")).is_err());
    let names: Vec<String> = disk.archive().into_keys().collect();
    assert_eq!(names, ["00000001.log"]);
    // Whatever becomes of the process and of the power.
    disk.killed();
    remove("00000002.log");
    disk.power_cut();
    write(&disk, "00000003.log", b"third");
    remove("00000003.log");
    let archive = disk.archive();
    assert_eq!(archive["00000001.log"], b"first");
    assert_eq!(archive["00000002.log"], b"second");
    assert_eq!(archive["00000003.log"], b"third");
}

#[test]
fn a_kill_loses_nothing_and_ends_every_handle() {
    let disk = disk(1);
    let file = write(&disk, "00000001.log", b"not synced");
    disk.killed();
    assert_eq!(disk.now().contents(&in_log("00000001.log")), b"not synced");
    assert!(write_all_at(&*file, b"too late", 0).is_err());
    assert_eq!(disk.now().contents(&in_log("00000001.log")), b"not synced");
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_some_of_the_rest() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..64 {
        let disk = disk(seed);
        let file = write(&disk, "00000001.log", &[1; SECTOR_BYTES]);
        sync(&disk, &*file);
        write_all_at(&*file, &[2; SECTOR_BYTES], SECTOR_BYTES as u64).unwrap();
        disk.power_cut();
        let bytes = disk.now().contents(&in_log("00000001.log"));
        assert_eq!(bytes[..SECTOR_BYTES], [1; SECTOR_BYTES], "seed {seed}");
        if bytes[SECTOR_BYTES..] == [2; SECTOR_BYTES] {
            kept += 1;
        } else {
            lost += 1;
        }
    }
    assert!(kept > 0 && lost > 0, "{kept} kept, {lost} lost");
}

#[test]
fn a_power_cut_leaves_the_lease_table_as_it_is_or_was_or_none() {
    let dir = Path::new(DATA_DIR).join("table");
    let row = |value: &[u8]| vec![(b"lock".to_vec(), value.to_vec())];
    let mut left = Vec::new();
    for seed in 0..64 {
        let disk = disk(seed);
        disk.tables().put_back(&dir, row(b"older"));
        disk.save_table();
        disk.tables().put_back(&dir, row(b"newer"));
        disk.killed();
        assert_eq!(disk.tables().save(&dir), row(b"newer"), "a kill keeps it");
        disk.power_cut();
        left.push(disk.tables().save(&dir));
    }
    left.sort_unstable();
    left.dedup();
    assert_eq!(left, [vec![], row(b"newer"), row(b"older")]);
}
