//! Shows that every node is as good as any other: what is written through one is answered by it,
//! without a redirect, and seen through the others at once.

use std::time::Duration;

use crate::harness::{TestCluster, until};

#[test]
fn every_write_goes_through_every_follower() {
    let cluster = TestCluster::start();
    let followers = cluster.followers();
    assert_eq!(followers.len(), 2);
    let mut last_token = 0;
    for id in followers {
        let client = cluster.client(id);
        let key = format!("through-{id}");
        // Any status but 200 would be a panic: redirects included.
        let taken = client.take(&key, "u", 60_000);
        assert!(taken.token() > last_token);
        last_token = taken.token();
        assert!(taken.header("location").is_none());
        assert_eq!(client.extend(&key, "u", 1000).status, 200);
        assert_eq!(client.release(&key, "u").status, 200);
    }
}

#[test]
fn a_read_sees_what_was_answered_elsewhere_before_it() {
    let cluster = TestCluster::start();
    for round in 0..30_u64 {
        let writer = cluster.client(round % 3 + 1);
        let reader = cluster.client((round + 1) % 3 + 1);
        let key = format!("r-{round}");
        let path = format!("/v1/locks/{key}");
        let token = writer.take(&key, "u", 60_000).token();
        let seen = reader.get(&path);
        assert_eq!(seen.status, 200, "round {round}: a stale read: {seen}");
        assert_eq!(seen.token(), token);
        assert_eq!(writer.release(&key, "u").status, 200);
        assert_eq!(reader.get(&path).status, 404, "round {round}: a stale read");
    }
}

#[test]
fn a_stale_read_is_answered_from_local_state_and_catches_up() {
    let cluster = TestCluster::start();
    let token = cluster.client(1).take("k", "u", 60_000).token();
    for id in [1, 2, 3] {
        let client = cluster.client(id);
        until("local state has the lock", Duration::from_secs(5), || {
            let seen = client.get("/v1/locks/k?consistency=stale");
            (seen.status == 200 && seen.token() == token).then_some(())
        });
        assert_eq!(client.get("/v1/locks/k?consistency=wrong").status, 400);
    }
}

/// A node cut off from the others cannot know that its state is current, so it answers no
/// linearizable read and grants nothing; local reads go on.
#[test]
fn a_node_alone_answers_stale_reads_only() {
    let cluster = TestCluster::start();
    let token = cluster.client(1).take("k", "u", 60_000).token();
    let client = cluster.client(3);
    until("node 3 has it", Duration::from_secs(5), || {
        (client.get("/v1/locks/k?consistency=stale").status == 200).then_some(())
    });
    cluster.kill(1);
    cluster.kill(2);
    let read = client.get("/v1/locks/k");
    assert!(matches!(read.status, 503 | 504), "{read}");
    let body = serde_json::json!({"key": "new", "retryAttempts": 0});
    let refused = client.acquire(&body);
    assert!(matches!(refused.status, 503 | 504), "{refused}");
    if refused.status == 503 {
        assert!(refused.header("retry-after").is_some(), "{refused}");
        assert_eq!(refused.json()["acquired"], false, "{refused}");
    } else {
        assert!(
            refused.json()["acquired"].is_null(),
            "an unknown outcome claims none: {refused}"
        );
    }
    let local = client.get("/v1/locks/k?consistency=stale");
    assert_eq!((local.status, local.token()), (200, token));
    cluster.restart(1);
    assert_eq!(client.get("/v1/locks/k").token(), token);
}
