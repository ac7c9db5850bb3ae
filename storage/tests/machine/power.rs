//! The power goes, or the disk fails, at every single call: what is found afterwards is whole, and
//! what was acknowledged is there.

use std::path::Path;
use std::sync::Arc;

use evermind_lock::table::Frozen;
use evermind_storage::data_dir::{DataDir, Identity};
use evermind_storage::disk::sim::{Fault, SimDisk};
use evermind_storage::machine::Step;
use openraft::RaftSnapshotBuilder;
use openraft::storage::RaftStateMachine;

use super::snapshot::{bytes, receive};
use super::support::{Log, Place, model};

const FAULTS: [Fault; 4] = [Fault::PowerOff, Fault::Io, Fault::Full, Fault::Short];
const SEEDS: u64 = 6;

/// What a disk may hold after a fault: the process died alone, or the power went with it.
fn aftermaths(disk: &SimDisk) -> Vec<SimDisk> {
    let mut disks = vec![disk.fork().kill()];
    disks.extend((0..SEEDS).map(|seed| disk.fork().power_cut(seed)));
    disks
}

#[tokio::test]
async fn a_snapshot_is_built_whole_or_not_at_all() {
    let models = [model(21, 50).await, model(21, 100).await];
    for fault in FAULTS {
        for call in 0.. {
            let disk = SimDisk::default();
            let place = Place::on(disk.clone());
            place.make();
            let mut log = Log::new(21);
            let mut node = place.start(0, 0).unwrap();
            node.apply(log.take(50)).await;
            node.build_snapshot().await;
            node.apply(log.take(50)).await;
            let at = disk.calls() + call;
            disk.fail_at(at, fault);
            let mut builder = node.machine.get_snapshot_builder().await;
            let built = builder.build_snapshot().await;
            if disk.calls() <= at {
                assert!(built.is_ok());
                assert!(call > 5, "the fault came {call} times");
                break;
            }
            for after in aftermaths(&disk) {
                let found = found(&after, 100, 50, &models);
                assert!(found >= usize::from(built.is_ok()), "{fault:?} at {call}");
            }
        }
    }
}

/// Starts over what is left; returns which of the states is there.
fn found(disk: &SimDisk, last: u64, purged: u64, models: &[Frozen]) -> usize {
    let place = Place::on(disk.clone());
    let node = place.start(last, purged).unwrap();
    let state = node.state();
    // What is found once stays found.
    let again = Place::on(disk.fork().power_cut(1)).start(last, purged);
    assert_eq!(again.unwrap().state(), state);
    let names = place.snapshots();
    assert!(names.len() <= 1, "{names:?}");
    models.iter().position(|model| *model == state).unwrap()
}

#[tokio::test]
async fn a_snapshot_is_installed_whole_or_not_at_all() {
    let leader = Place::without_sled();
    let mut node = leader.start(0, 0).unwrap();
    let empty = node.state();
    node.apply(Log::new(22).take(100)).await;
    let sent = bytes(&node.build_snapshot().await).await;
    let models = [empty, node.state()];
    for fault in FAULTS {
        for call in 0.. {
            let disk = SimDisk::default();
            let mut place = Place::on(disk.clone());
            place.make();
            let mut node = place.start(0, 0).unwrap();
            node.apply(Log::new(22).take(10)).await;
            let at = disk.calls() + call;
            disk.fail_at(at, fault);
            let installed = match node.machine.snapshots().receive().await {
                Ok(mut receiver) => match receiver.push(sent.clone().into()).await {
                    Ok(()) => match receiver.finish().await {
                        Ok(file) => {
                            let meta = file.snapshot_meta();
                            node.machine.install_snapshot(&meta, file).await.is_ok()
                        }
                        Err(_) => false,
                    },
                    Err(_) => false,
                },
                Err(_) => false,
            };
            if disk.calls() <= at {
                assert!(installed);
                assert!(call > 5, "the fault came {call} times");
                break;
            }
            // A checkpoint of what was installed is never beyond what is on disk.
            let checkpoint = node.checkpointer.step().unwrap();
            assert!(matches!(checkpoint, Step::Written { .. }));
            for after in aftermaths(&disk) {
                let found = found(&after, 10, 0, &models);
                assert!(found >= usize::from(installed), "{fault:?} at {call}");
                if installed {
                    place.disk = Arc::new(after);
                    assert_eq!(place.start(10, 0).unwrap().state(), models[1]);
                }
            }
        }
    }
}

/// The negative control: on a disk that only says that it synced, the same test finds the loss.
#[tokio::test]
async fn a_disk_that_lies_is_found_out() {
    let mut lost = 0;
    for seed in 0..20 {
        let disk = SimDisk::default();
        let place = Place::on(disk.clone());
        place.make();
        let mut node = place.start(0, 0).unwrap();
        node.apply(Log::new(23).take(100)).await;
        disk.lie_about_syncs();
        node.build_snapshot().await;
        let after = Place::on(disk.fork().power_cut(seed));
        let mut node = after.start(100, 0).unwrap();
        lost += usize::from(node.applied().await == 0);
    }
    assert!(lost > 10, "lost {lost} of 20");
}

/// A receiver takes the same bytes in any pieces.
#[tokio::test]
async fn a_snapshot_arrives_on_a_simulated_disk() {
    let disk = SimDisk::default();
    let place = Place::on(disk);
    place.make();
    let mut node = place.start(0, 0).unwrap();
    node.apply(Log::new(24).take(20)).await;
    let sent = bytes(&node.build_snapshot().await).await;
    assert!(receive(&node, &sent).await.is_ok());
}

#[test]
fn a_data_directory_keeps_its_identity_and_counts_every_boot() {
    const NODE_1: Identity = Identity {
        node: 1,
        cluster: [7; 16],
    };
    let path = Path::new("/data/node-1");
    let open = |disk: &SimDisk, id| DataDir::open(disk, path, NODE_1, id, None);
    for fault in FAULTS {
        for starts_before in 0..2 {
            for call in 0.. {
                let disk = SimDisk::default();
                for _ in 0..starts_before {
                    open(&disk, 42).unwrap();
                }
                let at = disk.calls() + call;
                disk.fail_at(at, fault);
                let opened = open(&disk, 42);
                if disk.calls() <= at {
                    assert!(call > 3, "the fault came {call} times");
                    break;
                }
                for after in aftermaths(&disk) {
                    let next = open(&after, 43).unwrap();
                    let known = starts_before == 1 || opened.is_ok();
                    assert!(next.disk_id() == 42 || !known, "{fault:?} at {call}");
                    let boots = starts_before + u64::from(opened.is_ok());
                    assert!(next.boot() > boots, "{fault:?} at {call}");
                    // And again, should the power go now.
                    let id = next.disk_id();
                    let again = open(&after.fork().power_cut(3), 44).unwrap();
                    assert_eq!(again.disk_id(), id);
                    assert!(again.boot() > next.boot());
                }
            }
        }
    }
}
