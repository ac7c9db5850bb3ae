//! Shows that `kill -9` of every process at once loses nothing that was acknowledged: grants keep
//! their tokens and what is left of their leases, tokens go on upward, the line stands as it stood.

use std::time::Duration;

use serde_json::json;

use crate::harness::history::History;
use crate::harness::http::Answer;
use crate::harness::load::under_load;
use crate::harness::waiter::{Waiter, minute_long};
use crate::harness::{Caller, TestCluster, until};

/// Two readings of a clock in whole milliseconds, and 1 ms for the drift within a minute.
const ROUNDING: Duration = Duration::from_millis(3);

struct Kept {
    key: String,
    uuid: String,
    answer: Answer,
    lease: Duration,
}

fn kill_all(cluster: &TestCluster) {
    for id in [1, 2, 3] {
        cluster.kill(id);
    }
}

fn start_all(cluster: &TestCluster) {
    for id in [1, 2, 3] {
        cluster.node(id).start();
    }
    cluster.await_ready();
}

#[test]
fn every_grant_survives_a_crash_of_all_nodes_under_load() {
    let cluster = TestCluster::start();
    let history = History::default();
    let mut kept = Vec::new();
    let ((), report) = under_load(&cluster, 8, &history, |load| {
        until("the load runs", Duration::from_secs(20), || {
            (load.cycles() > 200).then_some(())
        });
        for n in 0..60_u64 {
            let client = cluster.client(n % 3 + 1);
            let (key, uuid) = (format!("kept-{n}"), format!("keeper-{n}"));
            let lease = Duration::from_secs(60 + n);
            let answer = client.take(&key, &uuid, 60_000 + n * 1000);
            history.acquired(&answer);
            kept.push(Kept {
                key,
                uuid,
                answer,
                lease,
            });
        }
        kill_all(&cluster);
        start_all(&cluster);
        let cycles = load.cycles();
        until("the load goes on", Duration::from_secs(30), || {
            (load.cycles() > cycles + 100).then_some(())
        });
    });
    assert!(report.failures.is_empty(), "{:#?}", report.failures);

    let mut caller = Caller::new(&cluster, 1, &history);
    for grant in &kept {
        let more = json!({"lease": 60_000, "retryAttempts": 0});
        let again = caller
            .acquire(&grant.key, &grant.uuid, &more)
            .expect("the cluster serves");
        assert_eq!(again.status, 200, "an acknowledged grant was lost: {again}");
        assert_eq!(
            again.token(),
            grant.answer.token(),
            "an acknowledged grant was lost: {again}"
        );
        let left = Duration::from_millis(again.number("expiresIn"));
        let real = again.returned.duration_since(grant.answer.invoked);
        let least = grant.lease.saturating_sub(real).saturating_sub(ROUNDING);
        assert!(
            left >= least,
            "{left:?} are left of {:?} after {real:?}",
            grant.lease
        );
        assert!(
            left <= grant.lease,
            "{left:?} are left of {:?}",
            grant.lease
        );
    }
    let new = caller
        .acquire("after", "after", &json!({}))
        .expect("the cluster serves");
    let highest = kept.iter().map(|grant| grant.answer.token()).max().unwrap();
    assert!(new.token() > highest);
    history.assert_safe();
}

#[test]
fn cluster_time_stands_still_while_nobody_runs() {
    let cluster = TestCluster::start();
    let taken = cluster.client(1).take("k", "u", 2500);
    kill_all(&cluster);
    // The outage itself: longer than the lease.
    std::thread::sleep(Duration::from_secs(3));
    start_all(&cluster);
    let again = cluster.client(2).take("k", "u", 2500);
    assert_eq!(
        again.token(),
        taken.token(),
        "the lease was counted while nobody ran"
    );
    assert!(again.number("expiresIn") <= 2500);
    // And it does run out, once there is a clock again.
    until("the lease runs out", Duration::from_secs(10), || {
        (cluster.client(3).get("/v1/locks/k").status == 404).then_some(())
    });
}

#[test]
fn the_line_stands_after_a_crash_of_all_nodes() {
    let cluster = TestCluster::start();
    cluster.client(1).take("k", "holder", 60_000);
    let line: Vec<Waiter> = (1..=5)
        .map(|place| {
            Waiter::join(
                &cluster.client(place % 3 + 1),
                "k",
                &format!("w-{place}"),
                place,
            )
        })
        .collect();
    kill_all(&cluster);
    drop(line);
    start_all(&cluster);
    // Back within 3 s of cluster time, the last one first: order is by place, not by return.
    let mut back: Vec<Waiter> = (1..=5_u64)
        .rev()
        .map(|place| {
            let client = cluster.client((place + 1) % 3 + 1);
            Waiter::send(&client, &minute_long("k", &format!("w-{place}")))
        })
        .collect();
    back.reverse();
    for id in [1, 2, 3] {
        cluster.client(id).settle();
    }
    assert_eq!(
        cluster.client(1).waiting("k"),
        Some(5),
        "nobody stands in line twice"
    );

    assert_eq!(cluster.client(1).release("k", "holder").status, 200);
    let mut last_token = 0;
    for (place, waiter) in (1..).zip(back) {
        let granted = waiter.answer();
        assert_eq!(granted.status, 200, "{granted}");
        assert_eq!(granted.json()["config"]["uuid"], format!("w-{place}"));
        assert!(granted.token() > last_token, "served out of order");
        last_token = granted.token();
        assert_eq!(
            cluster.client(2).release("k", &format!("w-{place}")).status,
            200
        );
    }
}

/// One node at a time may come and go as it likes: nobody notices but its own clients.
#[test]
fn a_node_killed_again_and_again_costs_no_operation() {
    let cluster = TestCluster::start();
    let history = History::default();
    let ((), report) = under_load(&cluster, 8, &history, |load| {
        for id in [1, 2, 3, 1, 2, 3] {
            let cycles = load.cycles();
            until("the load runs", Duration::from_secs(20), || {
                (load.cycles() > cycles + 50).then_some(())
            });
            cluster.kill(id);
            cluster.restart(id);
        }
    });
    println!("{} cycles, {} moves", report.cycles, report.moves);
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
    history.assert_safe();
}
