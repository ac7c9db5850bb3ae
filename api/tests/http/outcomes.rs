//! What each outcome looks like on the wire, whole: the contract's golden bodies.

use std::time::Duration;

use evermind_lock::names::Holder;
use evermind_lock::outcome::{Current, CutOff, Granted, HeldReason, Limit, Outcome, Refusal};
use evermind_raft::api::NodeError;
use serde_json::{Value, json};

use crate::fake::{Answer, UNDECIDED_KEY};
use crate::server::{Reply, Server, right_headers};

const ACQUIRE: (&str, &str) = (
    "/lock/acquire",
    r#""key":"k","lease":5000,"retryAttempts":5,"uuid":"u""#,
);
const EXTEND: (&str, &str) = ("/lock/extend", r#""key":"k","uuid":"u","extendBy":2000"#);
const RELEASE: (&str, &str) = ("/lock/release", r#""key":"k","uuid":"u""#);

const CONFIG: &str = r#"{"key":"k","lease":5000,"retryAttempts":5,"retryDelay":500,"retryJitter":0,"uuid":"u","fifo":false}"#;

async fn ask(server: &Server, (path, fields): (&str, &str), soft: bool) -> Reply {
    let mut headers = right_headers();
    headers.push("x-request-id: r".into());
    let soft = if soft { r#","softFail":true"# } else { "" };
    server
        .post_with(path, &headers, format!("{{{fields}{soft}}}"))
        .await
}

#[tokio::test]
async fn granted() {
    let server = Server::start(Answer::Grant).await;
    for soft in [false, true] {
        let reply = ask(&server, ACQUIRE, soft).await;
        assert_eq!(reply.status, 200);
        assert_eq!(
            reply.body,
            format!(
                r#"{{"acquired":true,"lockAcquisitionAttempts":1,"config":{CONFIG},"message":null,"fencingToken":42,"expiresIn":5000,"waited":0}}"#
            )
        );
        assert_eq!(reply.header("evermind-log-index"), Some("7"));
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(reply.header("server"), Some("evermind"));
        assert_eq!(reply.header("x-request-id"), Some("r"));
    }
    let request = &server.fake.acquires()[0];
    assert_eq!(
        (request.lease_ms, request.retry_attempts, request.window_ms),
        (5_000, 5, 2_500)
    );
    assert_eq!((request.fifo, request.idempotency.is_none()), (false, true));
}

#[tokio::test]
async fn what_is_left_out_has_a_default_and_a_new_uuid() {
    let server = Server::start(Answer::Grant).await;
    let reply = ask(&server, ("/lock/acquire", r#""key":"k""#), false)
        .await
        .json();
    let request = &server.fake.acquires()[0];
    let uuid = &*request.holder.text();
    assert_eq!((uuid.len(), uuid.as_bytes()[14]), (36, b'7'), "{uuid}");
    assert_eq!(
        reply["config"],
        json!({"key":"k","lease":10_000,"retryAttempts":10,"retryDelay":500,"retryJitter":0,"uuid":uuid,"fifo":false})
    );
    assert_eq!(request.window_ms, 5_000);
}

#[tokio::test]
async fn a_repeated_acquire_tells_the_uuid_that_was_made_first() {
    let granted = Granted {
        holder: Holder::new("first").unwrap(),
        fencing_token: 9,
        expires_in_ms: 3,
        waited_ms: 1_200,
        attempts: 4,
    };
    let server = Server::start(Answer::Outcome(Outcome::Granted(granted))).await;
    let reply = ask(&server, ("/lock/acquire", r#""key":"k""#), false)
        .await
        .json();
    assert_eq!(reply["config"]["uuid"], "first");
    assert_eq!(
        (&reply["waited"], &reply["lockAcquisitionAttempts"]),
        (&json!(1_200), &json!(4))
    );
}

#[tokio::test]
async fn the_window_is_drawn_within_its_jitter() {
    let server = Server::start(Answer::Grant).await;
    for _ in 0..20 {
        ask(
            &server,
            (
                "/lock/acquire",
                r#""key":"k","retryDelay":100,"retryJitter":50"#,
            ),
            false,
        )
        .await;
    }
    let windows: Vec<u64> = server.fake.acquires().iter().map(|r| r.window_ms).collect();
    assert!(
        windows
            .iter()
            .all(|window| (1_000..=1_500).contains(window)),
        "{windows:?}"
    );
    assert!(
        windows.iter().any(|window| *window != windows[0]),
        "{windows:?}"
    );
}

#[tokio::test]
async fn extended_and_released() {
    let server = Server::start(Answer::Grant).await;
    for soft in [false, true] {
        let reply = ask(&server, EXTEND, soft).await;
        assert_eq!(reply.status, 200);
        assert_eq!(
            reply.body,
            r#"{"extended":true,"message":null,"expiresIn":7000,"fencingToken":42}"#
        );
        assert_eq!(reply.header("evermind-log-index"), Some("7"));
        let reply = ask(&server, RELEASE, soft).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.body, r#"{"released":true,"message":null}"#);
        assert_eq!(reply.header("evermind-log-index"), Some("7"));
    }
    assert_eq!(server.fake.extends()[0].extend_by_ms, 2_000);
}

/// A failure that the node tells: which, its status, code, whether it is softened, `Retry-After`,
/// and words of its message.
type Row = (
    Answer,
    u16,
    &'static str,
    bool,
    Option<&'static str>,
    &'static str,
);

fn refused(refusal: Refusal) -> Answer {
    Answer::Outcome(Outcome::Refused(refusal))
}

fn held(reason: HeldReason, expires_in_ms: u64) -> Answer {
    let current = Some(Current {
        fencing_token: 41,
        expires_in_ms,
        waiting: 3,
    });
    refused(Refusal::LockHeld {
        reason,
        attempts: 6,
        current,
    })
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    let no_leader = NodeError::NoLeader { retry_after: Duration::from_millis(1_001) };
    vec![
        (refused(Refusal::NotOwner), 409, "not_owner", true, None, "another uuid"),
        (refused(Refusal::LockNotFound), 404, "lock_not_found", true, None, "nobody holds"),
        (refused(Refusal::ExtendPastLimit { left_ms: 86_399_000 }), 400, "invalid_request", true, None, "extendBy would leave the lease more than 86400000 ms (24 h): 86399000 ms are left now, so at most 1000"),
        (refused(Refusal::Unauthorized), 401, "unauthorized", false, None, "API key"),
        (refused(Refusal::LicenceInactive), 403, "licence_inactive", true, None, "expired or was revoked"),
        (refused(Refusal::QuotaExceeded { limit: 9, next_period_ms: None }), 402, "quota_exceeded", true, None, "the licence's 9 attempts are spent; it does not begin anew"),
        (refused(Refusal::QuotaExceeded { limit: 9, next_period_ms: Some(0) }), 402, "quota_exceeded", true, Some("1"), "it begins anew at 1970-01-01T00:00:00Z"),
        (refused(Refusal::CutOff { reason: CutOff::KeyDeleted, attempts: 0 }), 401, "unauthorized", false, None, "was deleted while"),
        (refused(Refusal::CutOff { reason: CutOff::LicenceInactive, attempts: 0 }), 403, "licence_inactive", true, None, "ended while"),
        (refused(Refusal::LimitReached(Limit::WaitersPerResource)), 429, "limit_reached", false, Some("1"), "at most 10000 waiters for one lock"),
        (refused(Refusal::LimitReached(Limit::IdempotencyKeys)), 429, "limit_reached", false, Some("1"), "at most 1048576 Idempotency-Keys"),
        (refused(Refusal::LimitReached(Limit::OpenOperations)), 429, "rate_limited", false, Some("1"), "at most 65536 requests"),
        (refused(Refusal::IdempotencyMismatch), 422, "idempotency_mismatch", true, None, "another request"),
        (refused(Refusal::GrantEnded { attempts: 0 }), 409, "grant_ended", true, None, "has ended"),
        (Answer::Inability(no_leader), 503, "no_leader", true, Some("2"), "nothing was done"),
        (Answer::Inability(NodeError::Stopping), 503, "no_leader", true, Some("1"), "shutting down"),
        (Answer::Inability(NodeError::Busy), 429, "rate_limited", false, Some("1"), "as many requests"),
        (Answer::Inability(NodeError::Unknown), 504, "outcome_unknown", false, None, "not known"),
        // No node answers so: nothing is claimed.
        (Answer::Outcome(Outcome::Stale), 504, "outcome_unknown", false, None, "not known"),
        (Answer::Outcome(Outcome::Queued), 504, "outcome_unknown", false, None, "not known"),
    ]
}

#[tokio::test]
async fn every_failure_of_every_operation() {
    let server = Server::start(Answer::Grant).await;
    for (answer, status, code, softens, retry_after, words) in rows() {
        server.fake.answer(answer);
        for (asked, field) in [
            (ACQUIRE, "acquired"),
            (EXTEND, "extended"),
            (RELEASE, "released"),
        ] {
            for soft in [false, true] {
                let shown = format!("{code} {field} soft={soft}");
                let reply = ask(&server, asked, soft).await;
                let softened = soft && softens;
                assert_eq!(reply.status, if softened { 200 } else { status }, "{shown}");
                let media = if softened {
                    "application/json"
                } else {
                    "application/problem+json"
                };
                assert_eq!(reply.header("content-type"), Some(media), "{shown}");
                assert_eq!(reply.header("retry-after"), retry_after, "{shown}");
                let bearer = (status == 401).then_some("Bearer");
                assert_eq!(reply.header("www-authenticate"), bearer, "{shown}");
                assert_eq!(reply.header("cache-control"), Some("no-store"), "{shown}");
                let mut body = reply.json();
                let body = body.as_object_mut().unwrap();
                let unknown = status == 504;
                let no = if unknown { Value::Null } else { json!(false) };
                assert_eq!(body.remove(field), Some(no), "{shown}");
                if field == "acquired" {
                    let cost = if unknown { Value::Null } else { json!(0) };
                    assert_eq!(
                        body.remove("lockAcquisitionAttempts"),
                        Some(cost),
                        "{shown}"
                    );
                    let config = (status != 400).then(|| serde_json::from_str(CONFIG).unwrap());
                    assert_eq!(body.remove("config"), config, "{shown}");
                }
                let message = body.remove("message").unwrap();
                assert!(
                    message.as_str().unwrap().contains(words),
                    "{shown}: {message}"
                );
                assert_eq!(body.remove("detail"), Some(message), "{shown}");
                assert!(!body.remove("title").unwrap().as_str().unwrap().is_empty());
                let rest = json!({
                    "type": format!("urn:evermind:problem:{code}"),
                    "status": status, "code": code, "requestId": "r",
                });
                assert_eq!(Value::Object(body.clone()), rest, "{shown}");
            }
        }
    }
    // Whatever is not known is given up, so that no grant stands that nobody was told of. All
    // else is over.
    let ends = server.fake.ends();
    let given_up = 2 * rows()
        .iter()
        .filter(|row| matches!(row.0, Answer::Inability(_)) || row.1 == 504)
        .count();
    assert_eq!(
        (ends.abandoned, ends.handed_over),
        (given_up, ends.begun - given_up)
    );
}

#[tokio::test]
async fn held_by_another() {
    let server = Server::start(held(HeldReason::WindowPassed, 4_100)).await;
    for (soft, status) in [(false, 423), (true, 200)] {
        let reply = ask(&server, ACQUIRE, soft).await;
        assert_eq!(
            (reply.status, reply.header("retry-after")),
            (status, Some("5"))
        );
        assert_eq!(reply.header("evermind-log-index"), Some("7"));
        assert_eq!(
            reply.body,
            format!(
                concat!(
                    r#"{{"acquired":false,"lockAcquisitionAttempts":6,"config":{},"#,
                    r#""message":"another held the lock for the whole waiting window","#,
                    r#""type":"urn:evermind:problem:lock_held","title":"The lock is held by another","#,
                    r#""status":423,"detail":"another held the lock for the whole waiting window","#,
                    r#""code":"lock_held","requestId":"r","#,
                    r#""holder":{{"expiresIn":4100,"fencingToken":41,"waiting":3}}}}"#
                ),
                CONFIG
            )
        );
    }
    for (reason, words) in [
        (HeldReason::NoWait, "asked not to wait"),
        (
            HeldReason::ReleasedWhileWaiting,
            "a release of this uuid ended the wait",
        ),
        (HeldReason::Detached, "lost its caller"),
    ] {
        server.fake.answer(held(reason, 86_400_000));
        let reply = ask(&server, ACQUIRE, false).await;
        assert_eq!(
            (reply.status, reply.header("retry-after")),
            (423, Some("60"))
        );
        assert!(reply.message().contains(words), "{}", reply.message());
    }
    let free = Refusal::LockHeld {
        reason: HeldReason::Detached,
        attempts: 1,
        current: None,
    };
    server.fake.answer(refused(free));
    let reply = ask(&server, ACQUIRE, false).await;
    assert_eq!(
        (reply.header("retry-after"), reply.json().get("holder")),
        (Some("1"), None)
    );
}

#[tokio::test]
async fn a_key_that_nobody_can_look_up_now_is_503_and_can_be_softened() {
    let server = Server::start(Answer::Grant).await;
    let headers = [
        format!("authorization: Bearer {UNDECIDED_KEY}"),
        "content-type: application/json".into(),
    ];
    let hard = server
        .post_with("/lock/acquire", &headers, r#"{"key":"k"}"#)
        .await;
    assert_eq!((hard.status, hard.header("retry-after")), (503, Some("2")));
    let soft = server
        .post_with("/lock/acquire", &headers, r#"{"key":"k","softFail":true}"#)
        .await;
    assert_eq!((soft.status, soft.code().as_str()), (200, "no_leader"));
    assert_eq!(soft.json()["config"]["key"], "k");
}

#[tokio::test]
async fn a_wait_that_was_cut_off_tells_what_it_cost() {
    let cut_off = Refusal::CutOff {
        reason: CutOff::KeyDeleted,
        attempts: 3,
    };
    let server = Server::start(refused(cut_off)).await;
    let reply = ask(&server, ACQUIRE, false).await;
    assert_eq!(reply.status, 401);
    assert_eq!(reply.json()["lockAcquisitionAttempts"], 3);
}
