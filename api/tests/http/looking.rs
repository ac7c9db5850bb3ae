//! Reads, health, and paths that lead nowhere.

use std::net::Ipv4Addr;
use std::time::Duration;

use axum::body::Body;
use evermind_api::{Access, App, Limits};
use evermind_raft::api::NodeError;
use http::Request;
use serde_json::json;

use crate::fake::{API_KEY, Answer, Fake};
use crate::server::{Reply, Server};

#[tokio::test]
async fn one_lock() {
    let server = Server::start(Answer::Grant).await;
    let reply = server.get("/v1/locks/a%2Fb%20%D0%BA+").await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.body,
        r#"{"key":"a/b к+","fencingToken":42,"expiresIn":5000,"waiting":2,"fifo":true}"#
    );
    server.get("/v1/locks/k?consistency=stale").await;
    assert_eq!(
        server.fake.looks(),
        ["lock a/b к+ Linearizable", "lock k Stale"]
    );

    let free = server.get("/v1/locks/free").await;
    assert_eq!((free.status, free.code().as_str()), (404, "lock_not_found"));
}

#[tokio::test]
async fn one_lock_by_query_whatever_its_key() {
    let server = Server::start(Answer::Grant).await;
    for (query, key) in [
        ("a%2Fb+%D0%BA%2B", "a/b к+"),
        (".", "."),
        ("..", ".."),
        ("%2E%2E", ".."),
        ("a%2F..%2Fb", "a/../b"),
    ] {
        let reply = server.get(&format!("/v1/locks?key={query}")).await;
        assert_eq!((reply.status, &reply.json()["key"]), (200, &json!(key)));
    }
    server.get("/v1/locks?consistency=stale&key=k").await;
    let looks = server.fake.looks();
    assert_eq!(looks.first().unwrap(), "lock a/b к+ Linearizable");
    assert_eq!(looks.last().unwrap(), "lock k Stale");

    let free = server.get("/v1/locks?key=free").await;
    assert_eq!((free.status, free.code().as_str()), (404, "lock_not_found"));
}

#[tokio::test]
async fn listings_that_are_not_read_are_bounded() {
    let app = App::new(
        Fake::new(Answer::Grant),
        Limits::default(),
        Access::default(),
    );
    let list = || {
        let request = Request::get("/v1/locks")
            .header("host", "t")
            .header("authorization", format!("Bearer {API_KEY}"));
        let request = request.body(Body::empty()).unwrap();
        app.call(request, Ipv4Addr::LOCALHOST.into())
    };
    let mut unread = Vec::new();
    for _ in 0..16 {
        unread.push(list().await);
    }
    assert!(unread.iter().all(|answer| answer.status() == 200));
    let refused = list().await;
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    unread.pop();
    assert_eq!(list().await.status(), 200);
}

#[tokio::test]
async fn a_page_of_locks_leads_to_the_next() {
    let server = Server::start(Answer::Grant).await;
    let page = server.get("/v1/locks?prefix=a%2F+b&limit=1").await.json();
    assert_eq!(page["locks"][0]["key"], "a/b");
    let cursor = page["cursor"].as_str().unwrap();
    server
        .get(&format!("/v1/locks?cursor={cursor}&consistency=stale"))
        .await;
    assert_eq!(
        server.fake.looks(),
        ["locks a/ b - 1 Linearizable", "locks  a/b 100 Stale"]
    );
}

#[tokio::test]
async fn a_wrong_question_is_400_and_named() {
    let server = Server::start(Answer::Grant).await;
    for (path, named) in [
        ("/v1/locks/%ff", "key"),
        ("/v1/locks/%0", "key"),
        ("/v1/locks/a%00b", "key"),
        ("/v1/locks/k?consistency=strong", "consistency"),
        ("/v1/locks/k?limit=1", "consistency"),
        ("/v1/locks?limit=0", "limit"),
        ("/v1/locks?limit=1001", "limit"),
        ("/v1/locks?limit=1.0", "limit"),
        ("/v1/locks?limit=%2B1", "limit"),
        ("/v1/locks?limit=", "limit"),
        ("/v1/locks?limit=1&limit=1", "limit"),
        ("/v1/locks?cursor=zz", "cursor"),
        ("/v1/locks?cursor=", "cursor"),
        ("/v1/locks?prefix=%ff", "prefix"),
        (
            "/v1/locks?page=2",
            "key, prefix, cursor, limit, consistency",
        ),
        ("/v1/locks?key=", "key"),
        ("/v1/locks?key=%ff", "key"),
        ("/v1/locks?key=a%00b", "key"),
        ("/v1/locks?key=a&key=b", "key"),
        ("/v1/locks?key=a&prefix=", "prefix"),
        ("/v1/locks?cursor=61&key=a", "cursor"),
        ("/v1/locks?key=a&limit=1", "limit"),
        ("/v1/locks?key=a&consistency=strong", "consistency"),
    ] {
        let reply = server.get(path).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (400, "invalid_request"),
            "{path}"
        );
        assert!(
            reply.message().contains(named),
            "{path}: {}",
            reply.message()
        );
    }
    assert!(server.fake.looks().is_empty());
}

#[tokio::test]
async fn the_cluster() {
    let server = Server::start(Answer::Grant).await;
    let reply = server.get("/v1/cluster").await;
    assert_eq!(
        reply.json(),
        json!({
            "id": 1, "role": "leader", "leader": 1, "term": 3,
            "members": [{"id": 1, "http": "http://127.0.0.1:1", "peer": "127.0.0.1:2", "voter": true}],
            "appliedIndex": 9, "globalPrefix": "Evermind",
        })
    );
}

#[tokio::test]
async fn looking_needs_a_key_and_health_does_not() {
    let server = Server::start(Answer::Grant).await;
    for (path, status) in [
        ("/v1/locks", 401),
        ("/v1/locks/k", 401),
        ("/v1/cluster", 401),
        ("/livez", 200),
        ("/readyz", 200),
    ] {
        let reply = bare(&server, "GET", path).await;
        assert_eq!(reply.status, status, "{path}");
    }
    server.fake.answer(Answer::Inability(NodeError::NoLeader {
        retry_after: Duration::ZERO,
    }));
    assert_eq!(bare(&server, "GET", "/livez").await.status, 200);
    let reply = bare(&server, "GET", "/readyz").await;
    assert_eq!(
        (reply.status, reply.header("retry-after")),
        (503, Some("1"))
    );
}

#[tokio::test]
async fn a_read_is_never_of_unknown_outcome() {
    let server = Server::start(Answer::Inability(NodeError::Unknown)).await;
    for path in ["/v1/locks", "/v1/locks/k"] {
        let reply = server.get(path).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (503, "no_leader"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn wrong_paths_and_methods_are_problems_too() {
    let server = Server::start(Answer::Grant).await;
    for (method, path, status, code, allow) in [
        ("GET", "/", 404, "not_found", None),
        ("GET", "/v1/locks/", 404, "not_found", None),
        ("GET", "/v1/locks/a/b", 404, "not_found", None),
        ("POST", "/lock/acquire/", 404, "not_found", None),
        ("POST", "/lock//acquire", 404, "not_found", None),
        (
            "GET",
            "/lock/acquire",
            405,
            "method_not_allowed",
            Some("POST"),
        ),
        (
            "PUT",
            "/lock/extend",
            405,
            "method_not_allowed",
            Some("POST"),
        ),
        (
            "OPTIONS",
            "/lock/release",
            405,
            "method_not_allowed",
            Some("POST"),
        ),
        (
            "TRACE",
            "/lock/acquire",
            405,
            "method_not_allowed",
            Some("POST"),
        ),
        (
            "BREW",
            "/lock/acquire",
            405,
            "method_not_allowed",
            Some("POST"),
        ),
        (
            "POST",
            "/v1/locks",
            405,
            "method_not_allowed",
            Some("GET,HEAD"),
        ),
        (
            "DELETE",
            "/v1/locks/k",
            405,
            "method_not_allowed",
            Some("GET,HEAD"),
        ),
        (
            "POST",
            "/livez",
            405,
            "method_not_allowed",
            Some("GET,HEAD"),
        ),
    ] {
        let reply = bare(&server, method, path).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (status, code),
            "{method} {path}"
        );
        assert_eq!(reply.header("allow"), allow, "{method} {path}");
        assert_eq!(
            reply.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(
            reply.json()["requestId"],
            reply.header("x-request-id").unwrap()
        );
    }
}

async fn bare(server: &Server, method: &str, path: &str) -> Reply {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
    Reply::parse(&server.raw(head).await)
}
