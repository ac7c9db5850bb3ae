//! Whose directory it is.

use std::path::Path;

use evermind_storage::data_dir::{DataDir, DataDirError, DirLock, Identity};
use evermind_storage::disk::RealDisk;

const NODE_1: Identity = Identity {
    node: 1,
    cluster: [7; 16],
};

fn open(path: &Path, identity: Identity) -> Result<DataDir, DataDirError> {
    DataDir::open(&RealDisk, path, identity, 42, None)
}

#[test]
fn the_first_start_makes_it_and_every_start_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/c");
    let first = open(&path, NODE_1).unwrap();
    assert!(first.is_fresh());
    assert_eq!((first.boot(), first.disk_id()), (1, 42));
    assert!(first.log().is_dir() && first.snapshot().is_dir());
    // Never settled: the log may not have been made.
    let again = DataDir::open(&RealDisk, &path, NODE_1, 43, None);
    let mut again = again.unwrap();
    assert!(again.is_fresh());
    assert_eq!((again.boot(), again.disk_id()), (2, 42));
    again.settle(&RealDisk).unwrap();
    assert!(!again.is_fresh());
    let third = open(&path, NODE_1).unwrap();
    assert!(!third.is_fresh());
    assert_eq!((third.boot(), third.disk_id()), (3, 42));
}

#[test]
fn a_directory_that_moves_to_another_cluster_stays_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = open(dir.path(), NODE_1).unwrap();
    first.move_to(&RealDisk, [8; 16]).unwrap();
    assert_eq!((first.cluster_id(), first.boot()), ([8; 16], 1));
    let second = open(dir.path(), NODE_1).unwrap();
    assert_eq!((second.cluster_id(), second.boot()), ([8; 16], 2));
    assert_eq!(second.disk_id(), 42);
}

#[test]
fn another_nodes_or_clusters_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), NODE_1).unwrap();
    let node_2 = Identity { node: 2, ..NODE_1 };
    let refused = open(dir.path(), node_2).unwrap_err();
    assert!(matches!(
        refused,
        DataDirError::OtherNode {
            found: 1,
            wanted: 2,
            ..
        }
    ));
    assert!(refused.to_string().contains("--node-id 1"));
    // Which cluster it belongs to was settled when it was made.
    let elsewhere = Identity {
        cluster: [8; 16],
        ..NODE_1
    };
    assert_eq!(
        open(dir.path(), elsewhere).unwrap().cluster_id(),
        NODE_1.cluster
    );
    // A refusal is no boot.
    assert_eq!(open(dir.path(), NODE_1).unwrap().boot(), 3);
}

#[test]
fn two_processes_cannot_share_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let lock = DirLock::take(&path).unwrap();
    let held = DataDir::open(&RealDisk, &path, NODE_1, 42, Some(lock)).unwrap();
    let refused = DirLock::take(&path).unwrap_err();
    assert!(matches!(refused, DataDirError::InUse { .. }));
    assert!(refused.to_string().contains("hint:"));
    drop(held);
    DirLock::take(&path).unwrap();
}

#[test]
fn a_part_that_cannot_be_written_to_is_named_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let lock = DirLock::take(&path).unwrap();
    drop(DataDir::open(&RealDisk, &path, NODE_1, 42, Some(lock)).unwrap());
    // No user may search a plain file, the superuser included.
    let snapshot = path.join("snapshot");
    std::fs::remove_dir(&snapshot).unwrap();
    std::fs::write(&snapshot, "").unwrap();
    let refused = DirLock::take(&path).unwrap_err();
    assert!(matches!(&refused, DataDirError::Unwritable { path, .. } if *path == snapshot));
    assert!(refused.to_string().contains("hint:"));
}

#[test]
fn a_damaged_node_file_is_refused_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), NODE_1).unwrap();
    let node_file = dir.path().join("node");
    let whole = std::fs::read(&node_file).unwrap();
    let refuses = |bytes: &[u8]| {
        std::fs::write(&node_file, bytes).unwrap();
        let refused = open(dir.path(), NODE_1).unwrap_err();
        assert!(matches!(refused, DataDirError::Damaged { .. }), "{refused}");
        assert_eq!(std::fs::read(&node_file).unwrap(), bytes);
    };
    for len in 0..whole.len() {
        refuses(&whole[..len]);
    }
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        refuses(&flipped);
    }
    refuses(&[0xa5; 5000]);
    std::fs::write(&node_file, &whole).unwrap();
    open(dir.path(), NODE_1).unwrap();
}

#[test]
fn a_directory_that_lost_a_part_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), NODE_1).unwrap();
    std::fs::write(opened.log().join("segment"), b"x").unwrap();
    std::fs::remove_file(dir.path().join("node")).unwrap();
    let refused = open(dir.path(), NODE_1).unwrap_err();
    assert!(matches!(refused, DataDirError::Orphaned { .. }));
    assert!(!dir.path().join("node").exists());

    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), NODE_1).unwrap();
    std::fs::remove_dir(opened.log()).unwrap();
    let refused = open(dir.path(), NODE_1).unwrap_err();
    assert!(matches!(refused, DataDirError::Incomplete { .. }));
}

#[test]
fn a_start_that_was_interrupted_leaves_nothing_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), NODE_1).unwrap();
    std::fs::write(dir.path().join("node.new"), b"half").unwrap();
    assert_eq!(open(dir.path(), NODE_1).unwrap().boot(), 2);
}

#[test]
fn the_bytes_of_a_node_file_never_change() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), NODE_1).unwrap();
    let bytes = std::fs::read(dir.path().join("node")).unwrap();
    let (magic, rest) = bytes.split_at(8);
    assert_eq!(magic, b"EVMNODE\x01");
    let (body, sum) = rest.split_at(rest.len() - 4);
    // Codec version, cluster, node, disk, boot, settled.
    assert_eq!(body, [&[4_u8][..], &[7; 16], &[1, 42, 1, 0]].concat());
    assert_eq!(sum, [161, 5, 89, 104]);
}
