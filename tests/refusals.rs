//! Shows what a node refuses rather than risk: each time it stops, says why, and what to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::harness::TestCluster;
use crate::harness::command::run;
use crate::harness::process::evermind;

const REFUSES_WITHIN: Duration = Duration::from_secs(10);

/// A node's own command line with some of its values replaced, and some flags left out.
fn serve_with(cluster: &TestCluster, id: u64, changes: &[(&str, Option<String>)]) -> Command {
    let mut command = evermind();
    let arguments = &cluster.node(id).arguments;
    command.arg(&arguments[0]);
    for pair in arguments[1..].chunks(2) {
        match changes.iter().find(|(flag, _)| pair[0] == **flag) {
            Some((_, Some(value))) => command.arg(&pair[0]).arg(value),
            Some((_, None)) => &mut command,
            None => command.args(pair),
        };
    }
    command
}

#[test]
fn beyond_loopback_a_cluster_secret_is_required() {
    let cluster = TestCluster::prepare();
    for (flag, port) in [("--listen", 0), ("--peer-listen", 1)] {
        let open = format!("0.0.0.0:{}", cluster.spare_port(port));
        let changes = [(flag, Some(open)), ("--cluster-secret-file", None)];
        let ended = run(serve_with(&cluster, 1, &changes), REFUSES_WITHIN);
        assert!(!ended.status.success(), "{flag}: {ended:?}");
        assert!(
            ended.stderr.contains("--cluster-secret"),
            "it names the flag: {ended:?}"
        );
    }
}

#[test]
fn two_processes_never_share_a_data_directory() {
    let cluster = TestCluster::start();
    let changes = [
        (
            "--listen",
            Some(format!("127.0.0.1:{}", cluster.spare_port(0))),
        ),
        (
            "--peer-listen",
            Some(format!("127.0.0.1:{}", cluster.spare_port(1))),
        ),
    ];
    let ended = run(serve_with(&cluster, 1, &changes), REFUSES_WITHIN);
    assert!(!ended.status.success(), "{ended:?}");
    let data_dir = cluster.node(1).data_dir.display().to_string();
    assert!(
        ended.stderr.contains(&data_dir),
        "it names the directory: {ended:?}"
    );
    assert_eq!(
        cluster.client(1).take("k", "u", 1000).status,
        200,
        "the first goes on"
    );
}

#[test]
fn a_taken_port_is_named() {
    let cluster = TestCluster::start();
    let fresh = cluster.dir().join("fresh").display().to_string();
    let peer = format!("127.0.0.1:{}", cluster.spare_port(1));
    let changes = [("--data-dir", Some(fresh)), ("--peer-listen", Some(peer))];
    let ended = run(serve_with(&cluster, 1, &changes), REFUSES_WITHIN);
    assert!(!ended.status.success(), "{ended:?}");
    let taken = cluster.node(1).http.to_string();
    assert!(ended.stderr.contains(&taken), "{ended:?}");
}

#[test]
fn a_wiped_node_stops_and_says_what_to_do() {
    let cluster = TestCluster::start();
    cluster.await_members_recorded();
    let wiped = cluster.followers()[0];
    cluster.kill(wiped);
    fs::remove_dir_all(&cluster.node(wiped).data_dir).unwrap();
    cluster.node(wiped).start();
    let status = cluster.node(wiped).exit(Duration::from_secs(20));
    let status = status.expect("a node that lost its vote must not go on");
    assert!(!status.success());
    assert!(
        cluster.log_says(wiped, "leave this node off", Duration::ZERO),
        "it says what to do"
    );
    assert_eq!(
        cluster.client(cluster.leader()).take("k", "u", 1000).status,
        200
    );
}

/// sled's own layout: a directory with a `conf` and a `db` file, wherever the node keeps it.
fn sled_dir(under: &Path) -> PathBuf {
    let mut directories = vec![under.to_owned()];
    while let Some(directory) = directories.pop() {
        if directory.join("conf").is_file() && directory.join("db").is_file() {
            return directory;
        }
        let entries = fs::read_dir(&directory).unwrap().map(Result::unwrap);
        directories.extend(
            entries
                .map(|entry| entry.path())
                .filter(|path| path.is_dir()),
        );
    }
    panic!("no sled directory under {}", under.display());
}

type Damage = fn(&Path);

/// The lease table on disk is a checkpoint: what it held is in the snapshot and the log too.
#[test]
fn a_garbled_or_lost_checkpoint_is_rebuilt() {
    let cluster = TestCluster::start();
    let mut tokens = Vec::new();
    for n in 0..20 {
        tokens.push(
            cluster
                .client(1)
                .take(&format!("k-{n}"), "u", 600_000)
                .token(),
        );
    }
    let damages: [(&str, Damage); 3] = [
        ("garbled", |dir| {
            fs::write(dir.join("db"), vec![0xA5; 65_536]).unwrap();
        }),
        ("garbled everywhere", |dir| {
            for name in ["conf", "db"] {
                fs::write(dir.join(name), b"garbage").unwrap();
            }
        }),
        ("lost", |dir| fs::remove_dir_all(dir).unwrap()),
    ];
    for (id, (what, damage)) in (1..).zip(damages) {
        // Stopped politely, so that a checkpoint has been written at all.
        let status = cluster
            .terminate(id, Duration::from_secs(10))
            .expect("it stops");
        assert!(status.success());
        damage(&sled_dir(&cluster.node(id).data_dir));
        cluster.restart(id);
        for (n, token) in tokens.iter().enumerate() {
            let path = format!("/v1/locks/k-{n}?consistency=stale");
            let seen = cluster.client(id).get(&path);
            assert_eq!((seen.status, seen.token()), (200, *token), "{what}: {seen}");
        }
    }
    let again = cluster
        .client(2)
        .acquire(&json!({"key": "k-0", "uuid": "u", "lease": 600_000}));
    assert_eq!(again.token(), tokens[0]);
}
