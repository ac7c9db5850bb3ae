//! Shows what a command does while nodes are frozen or gone: it does not wait for them, and it is
//! carried out once all the same.

use std::time::{Duration, Instant};

use evermind_client::{Acquire, Client, Wait};

use crate::harness::command::{Running, run};
use crate::harness::process::evermind;
use crate::harness::waiter::{Waiter, minute_long};
use crate::harness::{TestCluster, until};

/// A third of the default lease.
const IN_TIME: Duration = Duration::from_millis(3_300);
const UNAVAILABLE: i32 = 69;
const USAGE: i32 = 2;

/// A client that goes to this node first.
fn client_at(cluster: &TestCluster, first: u64) -> Client {
    let order = [first, first % 3 + 1, (first + 1) % 3 + 1];
    let urls = order.map(|id| format!("http://{}", cluster.node(id).http));
    Client::new(urls, &cluster.api_key).unwrap().in_order()
}

fn acquire(key: &str, wait: Duration) -> Acquire {
    Acquire {
        key: key.to_owned(),
        lease_ms: 60_000,
        wait: Wait::lasting(wait),
        uuid: Some("u".to_owned()),
        fifo: false,
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(future)
}

/// A frozen node wakes and does what it was asked before: that changes nothing any more.
fn wake(cluster: &TestCluster, id: u64) {
    cluster.resume(id);
    cluster.await_ready();
    cluster.client(id).settle();
}

#[test]
fn a_frozen_first_node_costs_no_command_its_lease() {
    let cluster = TestCluster::start();
    let frozen = cluster.followers()[0];
    let other = cluster.leader();
    cluster.pause(frozen);
    block_on(async {
        let start = Instant::now();
        let wait = Duration::from_secs(5);
        let grant = client_at(&cluster, frozen)
            .acquire(&acquire("k", wait))
            .await;
        assert!(start.elapsed() < IN_TIME, "acquire: {:?}", start.elapsed());
        let token = grant.unwrap().value.fencing_token;

        let start = Instant::now();
        let extended = client_at(&cluster, frozen).extend("k", "u", 5_000).await;
        assert!(start.elapsed() < IN_TIME, "extend: {:?}", start.elapsed());
        let extended = extended.unwrap().value;
        assert_eq!(extended.fencing_token, token);
        assert!(
            extended.expires_in_ms <= 65_000,
            "extended once: {extended:?}"
        );

        let start = Instant::now();
        let shown = client_at(&cluster, frozen).show("k", false).await;
        assert!(start.elapsed() < IN_TIME, "show: {:?}", start.elapsed());
        assert_eq!(shown.unwrap().value.fencing_token, token);
    });
    // What the frozen node was sent is one and the same operation, also when it gets to it late.
    wake(&cluster, frozen);
    let left = cluster.client(other).get("/v1/locks/k").json()["expiresIn"].as_u64();
    assert!(left <= Some(65_000), "{left:?}");

    cluster.pause(frozen);
    block_on(async {
        let start = Instant::now();
        let released = client_at(&cluster, frozen).release("k", "u").await;
        assert!(start.elapsed() < IN_TIME, "release: {:?}", start.elapsed());
        released.unwrap();
    });
    wake(&cluster, frozen);
    assert_eq!(cluster.client(other).get("/v1/locks/k").status, 404);
}

#[test]
fn a_wait_goes_on_though_its_node_freezes() {
    let cluster = TestCluster::start();
    let (leader, frozen) = (cluster.leader(), cluster.followers()[0]);
    // Long enough for the frozen node to be taken for dead, and its places in line to go.
    cluster.client(leader).take("k", "holder", 8_000);
    let waiting = std::thread::scope(|scope| {
        let wait = scope.spawn(|| {
            let client = client_at(&cluster, frozen);
            block_on(client.acquire(&acquire("k", Duration::from_mins(1))))
        });
        until("the wait is in line", IN_TIME, || {
            (cluster.client(leader).waiting("k") == Some(1)).then_some(())
        });
        cluster.pause(frozen);
        // It keeps the place before this one.
        let behind = Waiter::join(&cluster.client(leader), "k", "behind", 2);
        let grant = wait.join().unwrap().unwrap();
        assert!(grant.value.waited_ms < 9_000, "{grant:?}");
        behind.hang_up();
        grant.value.fencing_token
    });
    // Waking, the frozen node finds that its caller is gone: the other request has the lock.
    wake(&cluster, frozen);
    let shown = cluster.client(leader).get("/v1/locks/k");
    assert_eq!(shown.token(), waiting, "{shown}");
}

#[test]
fn lock_run_gives_its_lock_back_past_a_frozen_node() {
    let cluster = TestCluster::start();
    let (leader, frozen) = (cluster.leader(), cluster.followers()[0]);
    let go = cluster.dir().join("go");
    let script = format!(
        "echo runs; while [ ! -e {} ]; do sleep 0.02; done",
        go.display()
    );
    // Each goes to a node of its own choice: so many that some are at the one that freezes.
    let keys: Vec<String> = (0..8).map(|number| format!("k{number}")).collect();
    let start = |key: &String| {
        let mut command = evermind();
        command
            .args(["lock", "run", key, "--lease", "60s"])
            .args(["--", "sh", "-c", &script])
            .env("EVERMIND_BASE_URL", cluster.urls())
            .env("EVERMIND_API_KEY", &cluster.api_key);
        Running::start(command)
    };
    let all: Vec<Running> = keys.iter().map(start).collect();
    for running in &all {
        let line = running.line(Duration::from_secs(20));
        assert_eq!(line.as_deref(), Some("runs"));
    }
    cluster.pause(frozen);
    std::fs::write(&go, "").unwrap();
    for running in all {
        let ended = running.end(Duration::from_secs(20));
        assert!(
            ended.status.success() && ended.stderr.is_empty(),
            "{ended:?}"
        );
    }
    for key in &keys {
        let shown = cluster.client(leader).get(&format!("/v1/locks/{key}"));
        assert_eq!(shown.status, 404, "{shown}");
    }
}

#[test]
fn a_lost_majority_is_named_and_not_the_node_that_is_down() {
    let cluster = TestCluster::start();
    for id in cluster.followers() {
        cluster.kill(id);
    }
    let mut command = evermind();
    command
        .args(["lock", "show", "k"])
        .env("EVERMIND_BASE_URL", cluster.urls())
        .env("EVERMIND_API_KEY", &cluster.api_key);
    let ended = run(command, Duration::from_mins(1));
    ended.failed(
        UNAVAILABLE,
        "hint: a majority of the nodes is not reachable",
    );
    assert!(
        ended.stderr.contains("evermind: "),
        "said meanwhile: {ended:?}"
    );
    assert!(
        !ended.stderr.contains("error: no node answered"),
        "{ended:?}"
    );
}

#[test]
fn the_view_of_the_cluster_tells_how_many_nodes_may_still_be_lost() {
    let cluster = TestCluster::start();
    let look = || {
        let mut command = evermind();
        command
            .arg("cluster")
            .env("EVERMIND_BASE_URL", cluster.urls())
            .env("EVERMIND_API_KEY", &cluster.api_key);
        run(command, Duration::from_secs(30))
    };
    let ended = look();
    assert!(
        ended.status.success() && ended.stderr.is_empty(),
        "{ended:?}"
    );
    let lost = cluster.followers();
    cluster.pause(lost[0]);
    let start = Instant::now();
    let ended = look();
    assert!(start.elapsed() < Duration::from_secs(5), "{ended:?}");
    assert!(ended.status.success(), "{ended:?}");
    assert!(
        ended.stderr.contains("one failure away from an outage"),
        "{ended:?}"
    );
    cluster.kill(lost[0]);
    cluster.kill(lost[1]);
    look().failed(UNAVAILABLE, "no majority: 1 of 3 voting nodes");
}

#[test]
fn a_wait_may_outlast_the_windows_of_the_server_but_has_a_bound() {
    let cluster = TestCluster::start();
    let lock = |wait: &str| {
        let mut command = evermind();
        command
            .args(["lock", "acquire", "k", "--wait", wait])
            .env("EVERMIND_BASE_URL", cluster.urls())
            .env("EVERMIND_API_KEY", &cluster.api_key);
        run(command, Duration::from_secs(30))
    };
    let ended = lock("31m");
    assert_eq!(ended.status.code(), Some(USAGE), "{ended:?}");
    assert!(
        ended.stderr.contains("--wait") && ended.stderr.contains("30m"),
        "{ended:?}"
    );
    let ended = lock("30m");
    assert!(ended.status.success(), "{ended:?}");
}

#[test]
fn a_renewed_wait_keeps_its_place_beyond_its_window() {
    let cluster = TestCluster::start();
    let client = cluster.client(1);
    client.take("k", "holder", 3_000);
    let mut two_seconds = minute_long("k", "u");
    two_seconds["retryAttempts"] = 4.into();
    let first = Waiter::send(&client, &two_seconds);
    until("it waits", IN_TIME, || {
        (client.waiting("k") == Some(1)).then_some(())
    });
    let behind = Waiter::join(&cluster.client(2), "k", "behind", 2);
    let renewed = Waiter::send(&cluster.client(3), &minute_long("k", "u"));
    // The lease of the holder ends, a second after the window that was asked for first.
    let (renewed, first) = (renewed.answer(), first.answer());
    assert_eq!((first.status, renewed.status), (200, 200), "{renewed}");
    assert_eq!(first.token(), renewed.token());
    assert_eq!(client.waiting("k"), Some(1), "the one behind still waits");
    behind.hang_up();
}
