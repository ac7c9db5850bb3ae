//! Shows SPEC.md 2, "Once means once": an operation that arrives again, at whichever node, changes
//! nothing and reports the present.

use serde_json::json;

use crate::harness::TestCluster;

#[test]
fn an_acquire_that_arrives_again_is_one_grant() {
    let cluster = TestCluster::start();
    let body = json!({"key": "k", "lease": 60_000});
    let first = cluster.client(1).post_once("/lock/acquire", "op-1", &body);
    assert_eq!(first.status, 200, "{first}");
    for id in [1, 2, 3] {
        let again = cluster.client(id).post_once("/lock/acquire", "op-1", &body);
        assert_eq!(again.status, 200, "{again}");
        assert_eq!(again.token(), first.token());
        assert!(again.number("expiresIn") <= 60_000, "{again}");
        // Its caller chose no uuid, and must learn the one that holds the lock.
        assert_eq!(
            again.json()["config"]["uuid"],
            first.json()["config"]["uuid"]
        );
    }

    let other = json!({"key": "k", "lease": 50_000});
    let mismatch = cluster.client(2).post_once("/lock/acquire", "op-1", &other);
    assert_eq!(
        (mismatch.status, mismatch.code().as_str()),
        (422, "idempotency_mismatch")
    );

    let uuid = first.json()["config"]["uuid"].as_str().unwrap().to_owned();
    assert_eq!(cluster.client(3).release("k", &uuid).status, 200);
    let ended = cluster.client(1).post_once("/lock/acquire", "op-1", &body);
    assert_eq!((ended.status, ended.code().as_str()), (409, "grant_ended"));
    assert_eq!(
        cluster.client(1).get("/v1/locks/k").status,
        404,
        "no zombie holds it"
    );
}

#[test]
fn an_extend_that_arrives_again_extends_once() {
    let cluster = TestCluster::start();
    let client = cluster.client(1);
    client.take("k", "u", 60_000);
    let body = json!({"key": "k", "uuid": "u", "extendBy": 100_000});
    let first = client.post_once("/lock/extend", "op-1", &body);
    assert_eq!(first.status, 200, "{first}");
    let left = first.number("expiresIn");
    assert!((100_000..=160_000).contains(&left), "{first}");
    for id in [1, 2, 3] {
        let again = cluster.client(id).post_once("/lock/extend", "op-1", &body);
        assert_eq!(again.status, 200, "{again}");
        assert!(again.number("expiresIn") <= left, "extended twice: {again}");
        assert_eq!(again.token(), first.token());
    }

    // Without the header it is another operation.
    let more = client.extend("k", "u", 100_000);
    assert!(more.number("expiresIn") > 160_000, "{more}");

    client.release("k", "u");
    let ended = client.post_once("/lock/extend", "op-1", &body);
    assert_eq!((ended.status, ended.code().as_str()), (409, "grant_ended"));
}

#[test]
fn a_release_that_arrives_again_says_what_it_said_and_touches_no_later_grant() {
    let cluster = TestCluster::start();
    let client = cluster.client(1);
    client.take("k", "u", 60_000);
    let body = json!({"key": "k", "uuid": "u"});
    let first = client.post_once("/lock/release", "op-1", &body);
    assert_eq!(first.status, 200, "{first}");

    // The same uuid takes the lock again; the late duplicate must not end that grant.
    let token = client.take("k", "u", 60_000).token();
    let late = cluster.client(2).post_once("/lock/release", "op-1", &body);
    assert_eq!(late.status, 200, "{late}");
    assert_eq!(late.json()["released"], true);
    assert_eq!(client.get("/v1/locks/k").token(), token);
}

#[test]
fn an_idempotency_key_is_its_endpoints_own_and_well_formed() {
    let cluster = TestCluster::start();
    let client = cluster.client(1);
    let acquire = json!({"key": "k", "uuid": "u", "lease": 60_000});
    assert_eq!(
        client.post_once("/lock/acquire", "op-1", &acquire).status,
        200
    );
    let extend = json!({"key": "k", "uuid": "u", "extendBy": 1000});
    assert_eq!(
        client.post_once("/lock/extend", "op-1", &extend).status,
        200
    );
    let release = json!({"key": "k", "uuid": "u"});
    assert_eq!(
        client.post_once("/lock/release", "op-1", &release).status,
        200
    );

    for wrong in ["", "with space", &"x".repeat(129)] {
        let answer = client.post_once("/lock/acquire", wrong, &acquire);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "invalid_request"),
            "{wrong:?}"
        );
    }
    assert_eq!(
        client
            .post_once("/lock/acquire", &"x".repeat(128), &acquire)
            .status,
        200
    );
}
