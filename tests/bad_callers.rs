//! Shows VERIFY.md 4, authorization: whoever has no valid key learns nothing, and no key is ever
//! written to a log.

use serde_json::json;

use crate::harness::TestCluster;
use crate::harness::http::Request;

#[test]
fn without_a_valid_key_nothing_is_answered() {
    let cluster = TestCluster::start();
    let client = cluster.client(1);
    let key = cluster.api_key.as_str();
    let body = json!({"key": "k", "uuid": "u", "retryAttempts": 0});
    let ask = || Request::json("/lock/acquire", &body);
    let other = format!("evk_{}", "0".repeat(64));
    let too_long = format!("Bearer evk_{}", "0".repeat(20_000));
    let rows = [
        ("none", ask(), 401),
        ("empty", ask().with("Authorization", ""), 401),
        ("no key", ask().with("Authorization", "Bearer"), 401),
        (
            "no key after a space",
            ask().with("Authorization", "Bearer "),
            401,
        ),
        ("the key alone", ask().with("Authorization", key), 401),
        (
            "another scheme",
            ask().with("Authorization", format!("Basic {key}")),
            401,
        ),
        ("an unknown key", ask().bearer(&other), 401),
        ("a key cut short", ask().bearer(&key[..key.len() - 1]), 401),
        ("a key too long", ask().with("Authorization", too_long), 401),
        (
            "a key and more",
            ask().with("Authorization", format!("Bearer {key} {key}")),
            401,
        ),
        ("twice", ask().bearer(key).bearer(key), 401),
        ("two different", ask().bearer(key).bearer(&other), 401),
        (
            "the licence prefix",
            ask().bearer(&key.replace("evk_", "evl_")),
            401,
        ),
        (
            "the scheme in lower case",
            ask().with("Authorization", format!("bearer {key}")),
            200,
        ),
        ("right", ask().bearer(key), 200),
    ];
    for (what, request, status) in rows {
        let answer = client.send(&request);
        assert_eq!(answer.status, status, "{what}: {answer}");
        if status == 401 {
            assert_eq!(answer.code(), "unauthorized", "{what}: {answer}");
            assert_eq!(
                answer.header("www-authenticate"),
                Some("Bearer"),
                "{what}: {answer}"
            );
            assert_eq!(answer.json()["acquired"], false, "{what}: {answer}");
        }
    }
    let soft = json!({"key": "k", "softFail": true});
    let answer = client.send(&Request::json("/lock/acquire", &soft));
    assert_eq!(
        answer.status, 401,
        "a missing key is never softened: {answer}"
    );
    for path in ["/v1/locks/k", "/v1/locks", "/v1/cluster"] {
        assert_eq!(client.send(&Request::get(path)).status, 401, "{path}");
    }

    for id in [1, 2, 3] {
        let log = cluster.node(id).log_text();
        for secret in [key, &other, "a secret of this test cluster only"] {
            assert!(!log.contains(secret), "node {id} logged a secret");
        }
    }
}

#[test]
fn a_key_that_the_cluster_was_started_with_works_on_every_node_at_once() {
    let cluster = TestCluster::start();
    for id in [1, 2, 3] {
        assert_eq!(
            cluster.client(id).get("/v1/cluster").status,
            200,
            "node {id}"
        );
    }
}

/// Unknown keys wait for a read of the cluster, and must not be a way to load it.
#[test]
fn a_flood_of_bad_keys_does_not_slow_the_good_one() {
    let cluster = TestCluster::start();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let client = cluster.client(1);
            scope.spawn(move || {
                for n in 0..200 {
                    let bad = format!("evk_{:064x}", n * 4 + thread);
                    let answer = client.send(&Request::get("/v1/locks").bearer(&bad));
                    assert_eq!(answer.status, 401, "{answer}");
                }
            });
        }
        for n in 0..50 {
            let taken = cluster.client(1).take(&format!("k-{n}"), "u", 10_000);
            let took = taken.returned.duration_since(taken.invoked);
            assert!(took < std::time::Duration::from_secs(2), "{took:?}");
        }
    });
}
