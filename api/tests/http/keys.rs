//! `/api-key`: a team's own API keys.

use std::num::NonZeroU32;

use evermind_api::{Limits, SecretKind};
use evermind_lock::licence::Standing;
use evermind_lock::outcome::{Limit, Outcome, Refusal};
use serde_json::json;

use crate::fake::{Answer, LICENCE_KEY};
use crate::server::{Reply, Server};

const RIGHT: &str = r#"{"licenceKey":"evl_right"}"#;
const DELETE: &str = r#"{"licenceKey":"evl_right","apiKey":"evk_any"}"#;

async fn create(server: &Server, body: &str) -> Reply {
    server.call("POST", "/api-key", "none", Some(body)).await
}

async fn delete(server: &Server, body: &str) -> Reply {
    server.call("DELETE", "/api-key", "none", Some(body)).await
}

#[tokio::test]
async fn a_key_is_made_and_told_once() {
    let server = Server::start(Answer::Grant).await;
    let first = create(&server, RIGHT).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(first.header("cache-control"), Some("no-store"));
    assert_eq!(first.header("evermind-log-index"), Some("7"));
    let body = first.json();
    assert_eq!(body["id"], "key_12");
    let key = body["apiKey"].as_str().unwrap();
    assert!(key.starts_with("evk_"));
    assert_eq!(SecretKind::ApiKey.fault(key), None);
    let second = create(&server, RIGHT).await.json();
    assert_ne!(second["apiKey"], body["apiKey"], "never the same");
    assert_eq!(server.fake.commands(), ["create key", "create key"]);
}

#[tokio::test]
async fn a_deleted_key_leaves_no_body() {
    let server = Server::start(Answer::Grant).await;
    let reply = delete(&server, DELETE).await;
    assert_eq!((reply.status, reply.body.as_str()), (204, ""));
    assert_eq!(server.fake.commands(), ["delete key"]);
}

#[tokio::test]
async fn an_unknown_licence_proposes_nothing() {
    let server = Server::start(Answer::Grant).await;
    for (key, words) in [
        ("evl_wrong", "unknown; is it all there?"),
        ("wrong", "unknown"),
        (&*format!("evl_{}", "a".repeat(58)), "mistyped"),
    ] {
        let body = json!({ "licenceKey": key, "apiKey": "evk_any" }).to_string();
        let reply = delete(&server, &body).await;
        assert_eq!((reply.status, &*reply.code()), (401, "licence_inactive"));
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        assert!(reply.message().contains(words), "{}", reply.message());
        assert!(!reply.body.contains(key), "a key is never repeated");
    }
    for standing in [Standing::Expired, Standing::Revoked] {
        server.fake.stands(standing);
        let reply = create(&server, RIGHT).await;
        assert_eq!((reply.status, &*reply.code()), (403, "licence_inactive"));
    }
    assert!(server.fake.commands().is_empty());
}

#[tokio::test]
async fn what_the_table_refuses() {
    let server = Server::start(Answer::Grant).await;
    for (refusal, status, code) in [
        (Refusal::LicenceUnknown, 401, "licence_inactive"),
        (Refusal::LicenceInactive, 403, "licence_inactive"),
        (Refusal::ApiKeyNotFound, 404, "api_key_not_found"),
        (
            Refusal::LimitReached(Limit::ApiKeysPerLicence),
            429,
            "limit_reached",
        ),
    ] {
        server
            .fake
            .answer(Answer::Outcome(Outcome::Refused(refusal)));
        for reply in [create(&server, RIGHT).await, delete(&server, DELETE).await] {
            assert_eq!((reply.status, &*reply.code()), (status, code));
            assert_eq!(
                reply.header("content-type"),
                Some("application/problem+json")
            );
        }
    }
    let soft = r#"{"licenceKey":"evl_right","apiKey":"evk_any","softFail":true}"#;
    let not_found = Outcome::Refused(Refusal::ApiKeyNotFound);
    server.fake.answer(Answer::Outcome(not_found));
    let reply = delete(&server, soft).await;
    assert_eq!((reply.status, &*reply.code()), (200, "api_key_not_found"));
}

#[tokio::test]
async fn bad_bodies() {
    let server = Server::start(Answer::Grant).await;
    for (body, words) in [
        ("", "one JSON object"),
        (r#""evl_12345678""#, "one JSON object"),
        (r#"{"evl_12345678":1}"#, "nothing else"),
        (r#"{"softFail":"evl_12345678"}"#, "one JSON object"),
        ("[]", "one JSON object"),
        ("{}", "licenceKey is required"),
        (
            r#"{"licenceKey":12345678}"#,
            "licenceKey is required: a string",
        ),
        (r#"{"licenceKey":""}"#, "1 to 256"),
        (r#"{"licenceKey":"a b"}"#, "visible"),
        (r#"{"licenceKey":"evl_right","apiKey":"x"}"#, "nothing else"),
        (r#"{"licenceKey":"a","licenceKey":"b"}"#, "each once"),
    ] {
        let reply = create(&server, body).await;
        assert_eq!(
            (reply.status, &*reply.code()),
            (400, "invalid_request"),
            "{body}"
        );
        assert!(reply.message().contains(words), "{}", reply.message());
        assert!(!reply.message().contains("12345678"), "{}", reply.message());
    }
    let reply = delete(&server, RIGHT).await;
    assert!(reply.message().contains("apiKey is required"));
    let reply = server.call("PUT", "/api-key", "none", None).await;
    assert_eq!(reply.status, 405);
    assert!(server.fake.commands().is_empty());
}

#[tokio::test]
async fn the_key_routes_are_counted_by_address() {
    let limits = Limits {
        address_requests_per_second: NonZeroU32::new(2).unwrap(),
        ..Limits::default()
    };
    let server = Server::with(Answer::Grant, limits).await;
    let mut refused = None;
    for _ in 0..20 {
        let reply = create(&server, RIGHT).await;
        if reply.status != 200 {
            refused = Some(reply);
            break;
        }
    }
    let refused = refused.expect("20 requests take less than 10 s");
    assert_eq!((refused.status, &*refused.code()), (429, "rate_limited"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(
        refused.header("ratelimit-policy"),
        Some("\"address\";q=2;w=1")
    );
    assert_eq!(refused.header("ratelimit"), Some("\"address\";r=0;t=1"));
    // Not so the lock routes.
    assert_eq!(
        server.post("/lock/acquire", r#"{"key":"k"}"#).await.status,
        200
    );
}

#[tokio::test]
async fn each_licence_has_its_rate_where_one_is_set() {
    let limits = Limits {
        licence_requests_per_second: NonZeroU32::new(2),
        ..Limits::default()
    };
    let server = Server::with(Answer::Grant, limits).await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(server.post("/lock/acquire", r#"{"key":"k"}"#).await.status);
    }
    assert!(
        statuses.contains(&200) && statuses.contains(&429),
        "{statuses:?}"
    );
    // A 429 is not softened.
    let soft = r#"{"key":"k","softFail":true}"#;
    let mut reply = server.post("/lock/acquire", soft).await;
    while reply.status == 200 {
        reply = server.post("/lock/acquire", soft).await;
    }
    assert_eq!((reply.status, &*reply.code()), (429, "rate_limited"));
    assert_eq!(
        reply.header("ratelimit-policy"),
        Some("\"licence\";q=2;w=1")
    );
    // Whoever holds a lock keeps it meanwhile, and can give it back.
    for _ in 0..50 {
        let body = r#"{"key":"k","uuid":"u","extendBy":1}"#;
        assert_eq!(server.post("/lock/extend", body).await.status, 200);
        let body = r#"{"key":"k","uuid":"u"}"#;
        assert_eq!(server.post("/lock/release", body).await.status, 200);
    }
    let mut reply = server.post("/lock/release", "{}").await;
    while reply.status == 400 {
        reply = server.post("/lock/release", "{}").await;
    }
    assert_eq!(
        reply.header("ratelimit-policy"),
        Some("\"licence-holding\";q=100;w=1"),
        "that has a bound too"
    );
    let wrong = server.call("GET", "/v1/cluster", "evk_wrong", None).await;
    assert_eq!(wrong.status, 401);
}

#[tokio::test]
async fn an_inactive_licence_is_told_after_the_body_and_can_be_softened() {
    let server = Server::start(Answer::Grant).await;
    server.fake.stands(Standing::Revoked);
    let reply = server.post("/lock/acquire", r#"{"key":"k"}"#).await;
    assert_eq!((reply.status, &*reply.code()), (403, "licence_inactive"));
    assert_eq!(reply.json()["acquired"], false);
    assert_eq!(reply.json()["config"]["key"], "k");
    let reply = server
        .post("/lock/release", r#"{"key":"k","uuid":"u","softFail":true}"#)
        .await;
    assert_eq!((reply.status, &*reply.code()), (200, "licence_inactive"));
    assert_eq!(server.get("/v1/locks/k").await.status, 403);
    assert_eq!(server.fake.ends().begun, 0, "nothing was proposed");
    // A licence key opens no locks, and is told apart.
    let licence = server.call("GET", "/v1/cluster", LICENCE_KEY, None).await;
    assert_eq!((licence.status, &*licence.code()), (401, "unauthorized"));
}
