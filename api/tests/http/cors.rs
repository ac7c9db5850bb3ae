//! Pages in browsers.

use evermind_api::Limits;

use crate::fake::{API_KEY, Answer};
use crate::server::{ADMIN_TOKEN, BODY, Reply, Server};

const APP: &str = "https://app.example";

async fn open_to(origins: &[&str]) -> Server {
    Server::open_to(origins, Answer::Grant, Limits::default()).await
}

/// A request with these header lines.
async fn ask(server: &Server, method: &str, path: &str, lines: &str, body: &str) -> Reply {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n{lines}content-length: {length}\r\n\r\n{body}"
    );
    Reply::parse(&server.raw(request).await)
}

async fn preflight(server: &Server, path: &str, origin: &str) -> Reply {
    let lines = format!(
        "origin: {origin}\r\naccess-control-request-method: POST\r\n\
         access-control-request-headers: authorization,content-type\r\n"
    );
    ask(server, "OPTIONS", path, &lines, "").await
}

async fn acquire(server: &Server, origin: &str) -> Reply {
    let lines =
        format!("authorization: Bearer {API_KEY}\r\ncontent-type: application/json\r\n{origin}");
    ask(server, "POST", "/lock/acquire", &lines, BODY).await
}

/// Everything that CORS adds.
fn told(reply: &Reply) -> Vec<(&str, &str)> {
    let ours = |name: &str| name.starts_with("access-control-") || name == "vary";
    let headers = reply.headers.iter().filter(|(name, _)| ours(name));
    headers
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

#[tokio::test]
async fn off_unless_asked_for() {
    let server = Server::start(Answer::Grant).await;
    let reply = preflight(&server, "/lock/acquire", APP).await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")));
    assert_eq!(told(&reply), []);
    let reply = acquire(&server, &format!("origin: {APP}\r\n")).await;
    assert_eq!((reply.status, told(&reply)), (200, vec![]));
}

#[tokio::test]
async fn a_preflight_tells_what_the_path_has() {
    let server = open_to(&["https://other.example", APP]).await;
    for (path, methods) in [
        ("/lock/acquire", "POST"),
        ("/v1/locks/k", "GET,HEAD"),
        ("/api-key", "POST,DELETE"),
        ("/openapi.json", "GET,HEAD"),
    ] {
        let reply = preflight(&server, path, APP).await;
        assert_eq!((reply.status, reply.body.as_str()), (204, ""), "{path}");
        for (name, value) in [
            ("access-control-allow-origin", APP),
            ("access-control-allow-methods", methods),
            (
                "access-control-allow-headers",
                "authorization, content-type, idempotency-key, x-request-id",
            ),
            ("access-control-max-age", "7200"),
            ("vary", "origin"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{path}");
        }
        assert_eq!(reply.header("access-control-allow-credentials"), None);
        assert_eq!(
            reply.header("content-length"),
            None,
            "RFC 9110, section 8.6"
        );
    }
    assert_eq!(preflight(&server, "/nowhere", APP).await.status, 404);
    // OPTIONS that is no preflight.
    let plain = ask(
        &server,
        "OPTIONS",
        "/lock/acquire",
        &format!("origin: {APP}\r\n"),
        "",
    )
    .await;
    assert_eq!(plain.status, 405);
    assert!(server.fake.acquires().is_empty());
}

#[tokio::test]
async fn an_answer_is_shown_to_the_pages_that_may_call() {
    let server = open_to(&[APP]).await;
    let shown = [
        (
            "access-control-expose-headers",
            "evermind-log-index, retry-after, x-request-id, ratelimit, ratelimit-policy",
        ),
        ("access-control-allow-origin", APP),
        ("vary", "origin"),
    ];
    let reply = acquire(&server, &format!("origin: {APP}\r\n")).await;
    assert_eq!((reply.status, told(&reply)), (200, shown.to_vec()));
    // Failures too: the page is to see what went wrong.
    let reply = ask(
        &server,
        "POST",
        "/lock/acquire",
        &format!("origin: {APP}\r\n"),
        "",
    )
    .await;
    assert_eq!((reply.status, told(&reply)), (401, shown.to_vec()));
}

#[tokio::test]
async fn another_origin_is_told_nothing() {
    let server = open_to(&[APP]).await;
    for origin in [
        "https://evil.example",
        "http://app.example",
        "https://app.example:444",
        "https://app.example/",
        "https://app.example.evil.example",
        "null",
        "*",
    ] {
        let reply = preflight(&server, "/lock/acquire", origin).await;
        assert_eq!(
            (reply.status, told(&reply)),
            (405, vec![("vary", "origin")]),
            "{origin}"
        );
        let reply = acquire(&server, &format!("origin: {origin}\r\n")).await;
        assert_eq!(told(&reply), [("vary", "origin")], "{origin}");
    }
    // No page at all, and one that cannot say where it is from.
    for lines in [String::new(), format!("origin: {APP}\r\norigin: {APP}\r\n")] {
        let reply = acquire(&server, &lines).await;
        assert_eq!(
            (reply.status, told(&reply)),
            (200, vec![("vary", "origin")]),
            "{lines}"
        );
    }
}

#[tokio::test]
async fn every_page_may_call_where_a_star_is_given() {
    let server = open_to(&["*"]).await;
    for origin in [APP, "null"] {
        let reply = preflight(&server, "/lock/extend", origin).await;
        assert_eq!(reply.status, 204);
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        assert_eq!(reply.header("vary"), None);
        let reply = acquire(&server, &format!("origin: {origin}\r\n")).await;
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    }
}

#[tokio::test]
async fn the_admin_routes_are_for_no_page() {
    let server = open_to(&["*"]).await;
    for path in [
        "/admin/licences",
        "/admin/licences/lic_1",
        "/admin/licences/lic_1/usage",
    ] {
        let reply = preflight(&server, path, APP).await;
        assert_eq!((reply.status, told(&reply)), (405, vec![]), "{path}");
        let lines = format!("authorization: Bearer {ADMIN_TOKEN}\r\norigin: {APP}\r\n");
        let reply = ask(&server, "GET", path, &lines, "").await;
        assert_eq!((reply.status, told(&reply)), (200, vec![]), "{path}");
    }
}
