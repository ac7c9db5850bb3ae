//! Shows the contract of SPEC.md 2 and 3 on a quiet cluster: every lock operation, every failure
//! that a correct client can meet, and what may be looked at.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::http::{Answer, Request};
use crate::harness::{TestCluster, until};

/// Every failure carries the operation's own fields and RFC 9457's, in one body.
#[track_caller]
fn assert_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{answer}"
    );
    assert_problem_body(answer, status, code);
}

#[track_caller]
fn assert_problem_body(answer: &Answer, status: u16, code: &str) {
    let body = answer.json();
    assert_eq!(body["code"], code, "{answer}");
    assert_eq!(body["status"], status, "{answer}");
    for field in ["message", "type", "title", "detail", "requestId"] {
        assert!(
            body[field].as_str().is_some_and(|s| !s.is_empty()),
            "{field} in {answer}"
        );
    }
}

#[test]
fn a_lock_is_taken_extended_and_given_back() {
    let cluster = TestCluster::start();
    let client = cluster.client(cluster.leader());

    let body = json!({"key": "k", "lease": 5000, "retryAttempts": 5, "uuid": "u-1"});
    let answer = client.acquire(&body);
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let token = answer.token();
    assert!(token > 0 && token < 1 << 53);
    let expected = json!({
        "acquired": true, "lockAcquisitionAttempts": 1, "message": null,
        "config": {"key": "k", "lease": 5000, "retryAttempts": 5, "retryDelay": 500,
                   "retryJitter": 0, "uuid": "u-1", "fifo": false},
        "fencingToken": token, "expiresIn": 5000, "waited": 0,
    });
    assert_eq!(answer.json(), expected);
    let first = answer.log_index().expect("it came of a log entry");

    let extended = client.extend("k", "u-1", 60_000);
    assert_eq!(extended.status, 200, "{extended}");
    assert_eq!(extended.json()["extended"], true);
    assert_eq!(extended.json()["message"], Value::Null);
    assert_eq!(extended.token(), token, "an extension is of the same grant");
    let left = extended.number("expiresIn");
    assert!(
        (60_000..=65_000).contains(&left),
        "added to the old expiry: {extended}"
    );
    assert!(extended.log_index().expect("a log entry") > first);

    let released = client.release("k", "u-1");
    assert_eq!(released.status, 200, "{released}");
    assert_eq!(released.json(), json!({"released": true, "message": null}));
    assert!(released.log_index() > extended.log_index());

    // A uuid may be used again after its release, and gets a new grant.
    let again = client.take("k", "u-1", 5000);
    assert!(again.token() > token);
}

#[test]
fn what_is_left_out_has_the_defaults_of_the_contract() {
    let cluster = TestCluster::start();
    let client = cluster.client(1);
    let answer = client.acquire(&json!({"key": "k"}));
    assert_eq!(answer.status, 200, "{answer}");
    let config = &answer.json()["config"];
    let uuid = config["uuid"].as_str().expect("a uuid is made").to_owned();
    assert_eq!(
        uuid::Uuid::parse_str(&uuid)
            .expect("a UUID")
            .get_version_num(),
        7
    );
    let expected = json!({"key": "k", "lease": 10_000, "retryAttempts": 10, "retryDelay": 500,
                          "retryJitter": 0, "uuid": uuid, "fifo": false});
    assert_eq!(*config, expected);
    assert_eq!(client.release("k", &uuid).status, 200);
}

#[test]
fn asking_again_under_the_holders_uuid_is_the_same_grant() {
    let cluster = TestCluster::start();
    let token = cluster.client(1).take("k", "u-1", 60_000).token();
    for id in [1, 2, 3] {
        let again = cluster.client(id).take("k", "u-1", 90_000);
        assert_eq!(again.token(), token);
        assert_eq!(again.number("waited"), 0);
        assert!(again.number("expiresIn") <= 60_000, "no new lease: {again}");
    }
}

#[test]
fn each_refusal_has_its_status_and_code() {
    let cluster = TestCluster::start();
    let client = cluster.client(1);
    let token = client.take("k", "u-1", 60_000).token();

    let held = client.acquire(&json!({"key": "k", "uuid": "u-2", "retryAttempts": 0}));
    assert_problem(&held, 423, "lock_held");
    assert!(
        held.header("retry-after")
            .is_some_and(|v| v.parse::<u64>().is_ok()),
        "{held}"
    );
    let body = held.json();
    assert_eq!(body["acquired"], false);
    assert_eq!(body["lockAcquisitionAttempts"], 1);
    assert_eq!(body["config"]["uuid"], "u-2");
    assert_eq!(body["holder"]["fencingToken"], token);
    assert_eq!(body["holder"]["waiting"], 0);
    assert!(
        body["holder"]["expiresIn"]
            .as_u64()
            .is_some_and(|left| left <= 60_000),
        "{held}"
    );

    let not_ours = client.extend("k", "u-2", 1000);
    assert_problem(&not_ours, 409, "not_owner");
    assert_eq!(not_ours.json()["extended"], false);
    let not_ours = client.release("k", "u-2");
    assert_problem(&not_ours, 409, "not_owner");
    assert_eq!(not_ours.json()["released"], false);

    assert_problem(&client.extend("free", "u-1", 1000), 404, "lock_not_found");
    assert_problem(&client.release("free", "u-1"), 404, "lock_not_found");

    let too_long = client.extend("k", "u-1", 86_400_000);
    assert_problem(&too_long, 400, "invalid_request");
    assert!(too_long.text("message").contains("extendBy"), "{too_long}");
}

#[test]
fn soft_fail_turns_failures_into_200_with_the_same_body() {
    let cluster = TestCluster::start();
    let client = cluster.client(2);
    client.take("k", "u-1", 60_000);
    let soft = |path: &str, body: Value, status: u16, code: &str, flag: &str| {
        let mut body = body;
        body["softFail"] = json!(true);
        let answer = client.post(path, &body);
        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{answer}"
        );
        assert_problem_body(&answer, status, code);
        assert_eq!(answer.json()[flag], false, "{answer}");
    };
    let held = json!({"key": "k", "uuid": "u-2", "retryAttempts": 0});
    soft("/lock/acquire", held, 423, "lock_held", "acquired");
    let other = json!({"key": "k", "uuid": "u-2", "extendBy": 1000});
    soft("/lock/extend", other, 409, "not_owner", "extended");
    soft(
        "/lock/release",
        json!({"key": "f", "uuid": "u"}),
        404,
        "lock_not_found",
        "released",
    );
    let wrong = json!({"key": "k", "lease": 0});
    soft("/lock/acquire", wrong, 400, "invalid_request", "acquired");
    let unknown = json!({"key": "k", "leese": 5});
    soft("/lock/acquire", unknown, 400, "invalid_request", "acquired");
}

#[test]
fn a_lease_runs_out_by_itself_and_never_early() {
    let cluster = TestCluster::start();
    let client = cluster.client(1);
    let taken = client.take("k", "u-1", 700);
    let freed = until("the lease has run out", Duration::from_secs(5), || {
        let asked = client.get("/v1/locks/k");
        (asked.status == 404).then_some(asked.returned)
    });
    // Cluster time is in whole ms and never runs faster than real time.
    let lived = freed.duration_since(taken.invoked);
    assert!(
        lived >= Duration::from_millis(699),
        "it ended after {lived:?}"
    );
    assert_eq!(client.extend("k", "u-1", 1000).status, 404);
}

#[test]
fn held_locks_can_be_looked_at_one_by_one_and_in_pages() {
    let cluster = TestCluster::start();
    let client = cluster.client(1);
    assert_problem(&client.get("/v1/locks/nobody"), 404, "lock_not_found");

    let body = json!({"key": "a key/with: odd%ones", "uuid": "u", "lease": 60_000, "fifo": true});
    let token = client.acquire(&body).token();
    let shown = client.get("/v1/locks/a%20key%2Fwith%3A%20odd%25ones");
    assert_eq!(shown.status, 200, "{shown}");
    let left = shown.number("expiresIn");
    assert!(left > 0 && left <= 60_000, "{shown}");
    let expected = json!({"key": "a key/with: odd%ones", "fencingToken": token,
                          "expiresIn": left, "waiting": 0, "fifo": true});
    assert_eq!(shown.json(), expected, "and never the holder's uuid");

    let keys: Vec<String> = (0..25).map(|n| format!("page-{n:02}")).collect();
    for key in &keys {
        client.take(key, "u", 60_000);
    }
    let mut seen = Vec::new();
    let mut cursor: Option<String> = None;
    let mut pages = 0;
    loop {
        let after = cursor.map(|c| format!("&cursor={c}")).unwrap_or_default();
        let page = client.get(&format!("/v1/locks?prefix=page-&limit=10{after}"));
        assert_eq!(page.status, 200, "{page}");
        let body = page.json();
        let locks = body["locks"].as_array().expect("locks").clone();
        assert!(locks.len() <= 10);
        seen.extend(
            locks
                .iter()
                .map(|lock| lock["key"].as_str().unwrap().to_owned()),
        );
        pages += 1;
        cursor = body["cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
        assert!(pages < 10, "the pages never end");
    }
    assert_eq!(seen, keys);
    assert_eq!(pages, 3);
    assert_eq!(client.get("/v1/locks?limit=0").status, 400);
    assert_eq!(client.get("/v1/locks?cursor=%00").status, 400);
}

#[test]
fn every_node_says_who_is_who_and_whether_it_can_serve() {
    let cluster = TestCluster::start();
    cluster.await_members_recorded();
    let leader = cluster.leader();
    for id in [1, 2, 3] {
        let client = cluster.client(id);
        for path in ["/livez", "/readyz"] {
            assert_eq!(
                client.send(&Request::get(path)).status,
                200,
                "{path} needs no key"
            );
        }
        assert_eq!(client.send(&Request::get("/v1/cluster")).status, 401);
        let view = client.get("/v1/cluster").json();
        assert_eq!(view["id"], id);
        assert_eq!(view["leader"], leader);
        assert_eq!(
            view["role"],
            if id == leader { "leader" } else { "follower" }
        );
        assert!(view["term"].as_u64().is_some_and(|term| term > 0), "{view}");
        assert!(
            view["appliedIndex"].as_u64().is_some_and(|index| index > 0),
            "{view}"
        );
        let members = view["members"].as_array().expect("members");
        assert_eq!(members.len(), 3);
        for (member, address) in members.iter().zip(cluster.addresses()) {
            assert_eq!(member["http"], format!("http://{address}"));
            assert!(
                member["peer"]
                    .as_str()
                    .is_some_and(|peer| peer.starts_with("127.0.0.1:"))
            );
            assert_eq!(member["voter"], true);
        }
    }
}

#[test]
fn a_request_id_goes_in_and_comes_out() {
    let cluster = TestCluster::start();
    let client = cluster.client(1);
    let ask = |id: &str| {
        let body = json!({"key": "free", "uuid": "u"});
        client.send(
            &client
                .request("/lock/release", &body)
                .with("X-Request-Id", id),
        )
    };
    let answer = ask("my-own-id-17");
    assert_eq!(answer.header("x-request-id"), Some("my-own-id-17"));
    assert_eq!(answer.json()["requestId"], "my-own-id-17");

    let made = client.release("free", "u");
    let id = made.header("x-request-id").expect("one is made").to_owned();
    assert!(!id.is_empty());
    assert_eq!(made.json()["requestId"], id);
}
