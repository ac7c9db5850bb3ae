//! Headers that a request cannot do without, or with.

use crate::fake::{API_KEY, Answer};
use crate::server::{Server, right_headers};

const BODY: &str = r#"{"key":"k","softFail":true}"#;

#[tokio::test]
async fn without_exactly_one_good_key_it_is_401() {
    let right = format!("authorization: Bearer {API_KEY}");
    let rows: Vec<Vec<String>> = vec![
        vec![],
        vec!["authorization:".into()],
        vec!["authorization: Bearer".into()],
        vec!["authorization: Bearer ".into()],
        vec![right.clone(), right.clone()],
        vec![right.clone(), "authorization: Bearer other".into()],
        vec![format!("authorization: Basic {API_KEY}")],
        vec![format!("authorization: {API_KEY}")],
        vec![format!("authorization: Bearer{API_KEY}")],
        vec![format!(
            "authorization: Bearer {}",
            &API_KEY[..API_KEY.len() - 1]
        )],
        vec![format!("authorization: Bearer {API_KEY} {API_KEY}")],
        vec![format!("authorization: Bearer, Bearer {API_KEY}")],
        vec![format!("authorization: Bearer {}", "k".repeat(257))],
        vec!["authorization: Bearer evk_wrong".into()],
        vec!["authorization: Bearer \u{e9}".into()],
    ];
    let server = Server::start(Answer::Grant).await;
    for mut headers in rows {
        let shown = format!("{headers:?}");
        headers.push("content-type: application/json".into());
        let reply = server.post_with("/lock/acquire", &headers, BODY).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (401, "unauthorized"),
            "{shown}"
        );
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"), "{shown}");
        assert_eq!(reply.json()["acquired"], false, "{shown}");
        assert!(!reply.body.contains("evk_"), "{shown}: a key came back");
    }
    assert!(server.fake.acquires().is_empty());
}

#[tokio::test]
async fn the_scheme_may_be_written_in_any_case() {
    let server = Server::start(Answer::Grant).await;
    let headers = [
        format!("authorization: bearer {API_KEY}"),
        "content-type: application/json".into(),
    ];
    assert_eq!(
        server
            .post_with("/lock/acquire", &headers, BODY)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn anything_but_plain_utf8_json_is_415() {
    let rows: &[(&[&str], u16)] = &[
        (&[], 415),
        (&["content-type: text/plain"], 415),
        (&["content-type: application/x-www-form-urlencoded"], 415),
        (&["content-type: application/jsonp"], 415),
        (&["content-type: application/problem+json"], 415),
        (&["content-type: application/json; charset=utf-16"], 415),
        (&["content-type: application/json; charset="], 415),
        (
            &[
                "content-type: application/json",
                "content-type: application/json",
            ],
            415,
        ),
        (
            &["content-type: application/json", "content-encoding: gzip"],
            415,
        ),
        (
            &[
                "content-type: application/json",
                "content-encoding: identity",
            ],
            415,
        ),
        (&["content-type: application/json; charset=utf-8"], 200),
        (&["content-type: Application/JSON;charset=\"UTF-8\""], 200),
    ];
    let server = Server::start(Answer::Grant).await;
    for (lines, status) in rows {
        let mut headers = vec![format!("authorization: Bearer {API_KEY}")];
        headers.extend(lines.iter().map(|line| (*line).to_owned()));
        let reply = server.post_with("/lock/acquire", &headers, BODY).await;
        assert_eq!(reply.status, *status, "{lines:?}: {reply:?}");
        if *status == 415 {
            assert_eq!(reply.code(), "unsupported_media_type");
        }
    }
}

#[tokio::test]
async fn an_idempotency_key_is_one_name() {
    let server = Server::start(Answer::Grant).await;
    let long = format!("idempotency-key: {}", "i".repeat(129));
    for lines in [
        &["idempotency-key: a", "idempotency-key: a"][..],
        &["idempotency-key:"],
        &["idempotency-key: a b"],
        &["idempotency-key: \u{e9}"],
        &[&long],
    ] {
        let mut headers = right_headers();
        headers.extend(lines.iter().map(|line| (*line).to_owned()));
        let hard = server
            .post_with("/lock/acquire", &headers, r#"{"key":"k"}"#)
            .await;
        assert_eq!(
            (hard.status, hard.code().as_str()),
            (400, "invalid_request"),
            "{lines:?}"
        );
        assert!(
            hard.message().contains("Idempotency-Key"),
            "{}",
            hard.message()
        );
        let soft = server.post_with("/lock/acquire", &headers, BODY).await;
        assert_eq!(soft.status, 200, "{lines:?}");
    }
    assert!(server.fake.acquires().is_empty());

    for (path, body) in [
        ("/lock/acquire", r#"{"key":"k"}"#),
        ("/lock/extend", r#"{"key":"k","uuid":"u","extendBy":1}"#),
        ("/lock/release", r#"{"key":"k","uuid":"u"}"#),
    ] {
        let mut headers = right_headers();
        headers.push("idempotency-key: once".into());
        server.post_with(path, &headers, body).await;
    }
    let of_acquire = server.fake.acquires()[0].idempotency.clone().unwrap();
    let of_extend = server.fake.extends()[0].idempotency.clone().unwrap();
    let of_release = server.fake.releases()[0].idempotency.clone().unwrap();
    assert_eq!(of_acquire.key.as_str(), "once");
    assert_ne!(of_extend.fingerprint, of_release.fingerprint);
}

#[tokio::test]
async fn a_request_id_comes_back_or_is_made() {
    let server = Server::start(Answer::Grant).await;
    let mut headers = right_headers();
    headers.push("x-request-id: mine-1".into());
    let reply = server.post_with("/lock/acquire", &headers, "{}").await;
    assert_eq!(reply.header("x-request-id"), Some("mine-1"));
    assert_eq!(reply.json()["requestId"], "mine-1");

    let long = format!("x-request-id: {}", "r".repeat(129));
    for unfit in [
        &["x-request-id: a b"][..],
        &["x-request-id:"],
        &[&long],
        &["x-request-id: a", "x-request-id: b"],
    ] {
        let mut headers = right_headers();
        headers.extend(unfit.iter().map(|line| (*line).to_owned()));
        let reply = server.post_with("/lock/acquire", &headers, "{}").await;
        let id = reply.header("x-request-id").unwrap().to_owned();
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'7'), "{unfit:?}: {id}");
        assert_eq!(reply.json()["requestId"], id.as_str());
        assert_eq!(
            reply
                .headers
                .iter()
                .filter(|(name, _)| name == "x-request-id")
                .count(),
            1
        );
    }
}
