//! Shows what becomes of a node that runs and cannot take part: it says so, to those who ask it and
//! to its operator, and what it is asked is never granted behind the caller's back.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::cluster::NODES;
use crate::harness::http::Answer;
use crate::harness::waiter::Waiter;
use crate::harness::{TestCluster, until};

const SOON: Duration = Duration::from_secs(15);

fn is_ready(cluster: &TestCluster, id: u64) -> bool {
    cluster.client(id).get("/readyz").status == 200
}

/// It was started with another peer port, as after a changed port mapping: the leader cannot dial it,
/// and it can dial the leader.
#[test]
fn a_node_that_its_leader_cannot_dial_is_not_ready_and_grants_nothing() {
    let cluster = TestCluster::start();
    let deaf = cluster.followers()[0];
    assert!(cluster.terminate(deaf, SOON).is_some());
    let elsewhere = format!("127.0.0.1:{}", cluster.spare_port(0));
    cluster.node(deaf).start_with("--peer-listen", &elsewhere);
    let said = "the leader does not reach this node";
    assert!(cluster.log_says(deaf, said, SOON), "not told why");
    assert!(!is_ready(&cluster, deaf));

    let asked = json!({ "key": "k", "uuid": "u", "lease": 60_000, "retryAttempts": 0 });
    let refused = cluster.client(deaf).acquire(&asked);
    assert_eq!(refused.status, 503, "{refused}");
    assert_eq!(refused.code(), "no_leader");
    let others: Vec<u64> = (1..=3).filter(|id| *id != deaf).collect();
    let leader = cluster.leader_among(&others);
    let free = cluster.client(leader).get("/v1/locks/k");
    assert_eq!(free.status, 404, "granted to nobody: {free}");

    // Where it is expected, it is reached, and serves.
    cluster.kill(deaf);
    cluster.restart(deaf);
    assert_eq!(cluster.client(deaf).acquire(&asked).status, 200);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let at = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &at);
        } else {
            std::fs::copy(entry.path(), at).unwrap();
        }
    }
}

/// A restored snapshot of a virtual machine.
#[test]
fn a_data_directory_that_is_put_back_to_an_older_copy_is_told_of() {
    let cluster = TestCluster::start();
    let (leader, restored) = (cluster.leader(), cluster.followers()[0]);
    cluster.client(leader).take("before", "u", 60_000);
    assert!(cluster.terminate(restored, SOON).is_some());
    let data = cluster.dir().join(format!("node-{restored}"));
    let older = cluster.dir().join("older");
    copy(&data, &older);
    cluster.restart(restored);
    for key in 0..20 {
        cluster
            .client(restored)
            .take(&format!("k-{key}"), "u", 60_000);
    }
    assert!(cluster.terminate(restored, SOON).is_some());
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&older, &data).unwrap();
    cluster.node(restored).start();
    for node in [restored, leader] {
        let told = cluster.log_says(node, "older copy", SOON);
        assert!(told, "node {node} does not say why");
    }
    assert!(cluster.log_says(restored, "hint: stop it", SOON));
    assert!(!is_ready(&cluster, restored));
    // The others go on.
    cluster.client(leader).take("after", "u", 60_000);
}

/// As above, and the node was started once more than the copy knows of.
#[test]
fn an_older_copy_that_knows_fewer_starts_ends() {
    let cluster = TestCluster::start();
    let (leader, restored) = (cluster.leader(), cluster.followers()[0]);
    assert!(cluster.terminate(restored, SOON).is_some());
    let data = cluster.dir().join(format!("node-{restored}"));
    let older = cluster.dir().join("older");
    copy(&data, &older);
    cluster.restart(restored);
    assert!(cluster.terminate(restored, SOON).is_some());
    cluster.restart(restored);
    cluster.client(restored).take("k", "u", 60_000);
    assert!(cluster.terminate(restored, SOON).is_some());
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&older, &data).unwrap();
    cluster.node(restored).start();
    let ended = cluster.node(restored).exit(SOON);
    assert!(ended.is_some_and(|status| !status.success()), "{ended:?}");
    assert!(cluster.log_says(restored, "older copy", SOON));
    cluster.client(leader).take("after", "u", 60_000);
}

#[test]
fn a_list_that_is_spelled_differently_is_named_and_can_be_put_right() {
    let cluster = TestCluster::prepare();
    let list = [1, 2, 3].map(|id| format!("{id}={}", cluster.peer_address(id)));
    let spelled = list.join(",").replacen("127.0.0.1", "localhost", 1);
    cluster.node(1).start();
    cluster.node(3).start();
    cluster.await_ready();
    cluster.node(2).start_with("--initial-cluster", &spelled);
    assert!(cluster.log_says(2, "letter by letter", SOON));
    thread::sleep(Duration::from_secs(5));
    let warnings = cluster.node(2).log_text();
    let warnings = warnings.matches("another cluster").count();
    // One for each of the others from each end, and one in all for those who knock.
    assert!(warnings <= 6, "{warnings} in 5 s");
    cluster.kill(2);
    // It never took part, so its list may be corrected.
    cluster.restart(2);
}

/// Stood still, it is taken for dead, and its callers' places are dropped 3 s later. Its connections
/// stand all the while.
#[test]
fn a_wait_goes_on_after_its_node_stood_still() {
    let cluster = TestCluster::start();
    let frozen = cluster.followers()[0];
    goes_on_after(&cluster, frozen, cluster.leader());
}

#[test]
fn a_wait_goes_on_after_its_leader_stood_still() {
    let cluster = TestCluster::start();
    let other = cluster.followers()[0];
    goes_on_after(&cluster, cluster.leader(), other);
}

fn goes_on_after(cluster: &TestCluster, frozen: u64, leader: u64) {
    cluster.client(leader).take("k", "holder", 60_000);
    let waiter = Waiter::join(&cluster.client(frozen), "k", "w", 1).in_background();
    stands_still(cluster, frozen, leader, || {});
    goes_on(cluster, leader, "k", waiter);
}

/// Until the places of the callers that wait for `k` there are dropped.
fn stands_still(cluster: &TestCluster, frozen: u64, leader: u64, meanwhile: impl FnOnce()) {
    cluster.pause(frozen);
    let began = Instant::now();
    meanwhile();
    let dropped = Duration::from_secs(20);
    until("its place is dropped", dropped, || {
        let gone = cluster.client(leader).waiting("k") == Some(0);
        // Detached, it is not counted: its place goes 3 s later.
        (gone && began.elapsed() > Duration::from_secs(7)).then_some(())
    });
    cluster.resume(frozen);
}

fn goes_on(cluster: &TestCluster, leader: u64, key: &str, waiter: thread::JoinHandle<Answer>) {
    until("it waits again", SOON, || {
        (cluster.client(leader).waiting(key) == Some(1)).then_some(())
    });
    assert_eq!(cluster.client(leader).release(key, "holder").status, 200);
    let granted = waiter.join().unwrap();
    assert_eq!(granted.status, 200, "{granted}");
    // As if it had never been interrupted: a poll each 500 ms, and the first. It stood still for 7 s, of
    // which cluster time misses those without a leader.
    let attempts = granted.number("lockAcquisitionAttempts");
    assert!((12..=60).contains(&attempts), "{granted}");
    assert!(granted.number("waited") >= 5_500, "{granted}");
}

/// What carries time into the log each second must not count as the proposal of the next end.
#[test]
fn a_lease_ends_on_time_on_a_quiet_cluster() {
    let cluster = TestCluster::start();
    let client = cluster.client(cluster.leader());
    let mut late = Vec::new();
    for lease in [1_100, 1_300, 1_500, 2_300, 2_500, 1_500] {
        client.take("k", &format!("holder-{lease}"), lease);
        let began = Instant::now();
        let waited = client.acquire(&json!({
            "key": "k", "uuid": format!("w-{}", late.len()), "lease": 1,
            "retryAttempts": 10, "retryDelay": 1000,
        }));
        assert_eq!(waited.status, 200, "{waited}");
        late.push(began.elapsed().saturating_sub(Duration::from_millis(lease)));
    }
    late.sort();
    // A busy machine may be late now and then, the one of old was nearly always.
    assert!(
        late[late.len() / 2] < Duration::from_millis(100),
        "{late:?}"
    );
}

/// As above, and what it missed is gone from the log: it is sent a snapshot, which does not say how
/// the wait ended. An idempotency key does, and without one the outcome is unknown: a wait that was
/// released must not come back.
#[test]
fn a_wait_goes_on_after_its_node_stood_still_and_was_sent_a_snapshot() {
    let cluster =
        TestCluster::prepare_with(&["--log-bytes-kept", "20000", "--log-entries-kept", "5"]);
    for id in NODES {
        cluster.node(id).start();
    }
    cluster.await_ready();
    let (leader, frozen) = (cluster.leader(), cluster.followers()[0]);
    let (client, there) = (cluster.client(leader), cluster.client(frozen));
    for key in ["k", "released", "released-once"] {
        client.take(key, "holder", 60_000);
    }
    let named = Waiter::join_once(&there, "k", "w", "once", 1).in_background();
    let released = Waiter::join(&there, "released", "w", 1).in_background();
    let released_once = Waiter::join_once(&there, "released-once", "w", "twice", 1).in_background();
    stands_still(&cluster, frozen, leader, || {
        for key in ["released", "released-once"] {
            assert_eq!(client.release(key, "w").status, 200);
        }
        for number in 0..200 {
            client.take(&format!("k-{number}"), "u", 60_000);
        }
    });
    goes_on(&cluster, leader, "k", named);
    let unknown = released.join().unwrap();
    assert_eq!(unknown.status, 504, "{unknown}");
    let told = released_once.join().unwrap();
    assert_eq!(told.status, 423, "{told}");
    for key in ["released", "released-once"] {
        assert_eq!(client.waiting(key), Some(0), "it came back to {key}");
    }

    let snapshots = cluster.node(frozen).data_dir.join("snapshot");
    let mut files = std::fs::read_dir(snapshots).unwrap().flatten();
    let was_sent = files.any(|file| {
        file.path()
            .extension()
            .is_some_and(|end| end == "installed")
    });
    assert!(was_sent, "it was sent the log");
}
