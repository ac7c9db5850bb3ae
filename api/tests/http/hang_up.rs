//! Callers that go away.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use evermind_api::{Access, App, Limits};
use http::Request;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::fake::{API_KEY, Answer, Ends, Fake};
use crate::server::{BODY, Server, post, read_one, right_headers, within};

const NEARBY: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A caller that stands in line.
async fn in_line(server: &Server) -> TcpStream {
    let before = server.fake.ends().begun;
    let mut stream = server.connect().await;
    stream
        .write_all(&post("/lock/acquire", &right_headers(), BODY))
        .await
        .unwrap();
    server.fake.until(|ends| ends.begun == before + 1).await;
    stream
}

async fn given_up_within_a_second(server: &Server) {
    let began = Instant::now();
    within(server.fake.until(|ends| ends.abandoned == 1)).await;
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(server.fake.ends().handed_over, 0);
}

#[tokio::test]
async fn a_caller_that_closes_leaves_the_line() {
    let server = Server::start(Answer::Wait).await;
    drop(in_line(&server).await);
    given_up_within_a_second(&server).await;
}

#[tokio::test]
async fn a_caller_that_resets_leaves_the_line() {
    let server = Server::start(Answer::Wait).await;
    let stream = in_line(&server).await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    given_up_within_a_second(&server).await;
}

#[tokio::test]
async fn a_caller_that_half_closes_leaves_the_line() {
    let server = Server::start(Answer::Wait).await;
    let mut stream = in_line(&server).await;
    stream.shutdown().await.unwrap();
    given_up_within_a_second(&server).await;
}

#[tokio::test]
async fn a_caller_that_half_closes_still_hears_a_prompt_answer() {
    // A grace that no slow machine outlasts.
    let limits = Limits {
        half_close_grace: Duration::from_secs(30),
        ..Limits::default()
    };
    let server = Server::with(Answer::Wait, limits).await;
    let mut stream = in_line(&server).await;
    stream.shutdown().await.unwrap();
    server.fake.answer(Answer::Grant);
    assert_eq!(read_one(&mut stream).await.status, 200);
    server.fake.until(|ends| ends.handed_over == 1).await;

    // The end stands behind the request before the server reads either.
    for _ in 0..20 {
        let mut stream = server.connect().await;
        let request = format!(
            "GET /v1/locks/k HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {API_KEY}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(read_one(&mut stream).await.status, 200);
    }
}

#[tokio::test]
async fn an_answer_counts_as_handed_over_when_it_is_written() {
    let server = Server::start(Answer::Wait).await;
    let mut stream = in_line(&server).await;
    assert_eq!(server.fake.ends().handed_over, 0);
    server.fake.answer(Answer::Grant);
    assert_eq!(read_one(&mut stream).await.status, 200);
    let ends = server.fake.ends();
    assert_eq!((ends.handed_over, ends.abandoned), (1, 0));
}

#[tokio::test]
async fn a_caller_gone_within_its_body_asks_nothing() {
    let limits = Limits {
        connections_max: 1,
        ..Limits::default()
    };
    let server = Server::with(Answer::Grant, limits).await;
    let mut stream = server.connect().await;
    let request = post("/lock/acquire", &right_headers(), BODY);
    stream
        .write_all(&request[..request.len() - 1])
        .await
        .unwrap();
    drop(stream);
    // The only place is free again: the server is done with it.
    within(async {
        while server
            .raw("GET /livez HTTP/1.0\r\n\r\n")
            .await
            .starts_with(b"HTTP/1.1 503")
        {}
    })
    .await;
    assert!(server.fake.acquires().is_empty());
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_given_up() {
    let fake = Fake::new(Answer::Grant);
    let app = App::new(fake.clone(), Limits::default(), Access::default());
    let request = || {
        Request::post("/lock/acquire")
            .header("host", "t")
            .header("authorization", format!("Bearer {API_KEY}"))
            .header("content-type", "application/json")
            .body(Body::from(BODY))
            .unwrap()
    };
    let answer = app.call(request(), NEARBY).await;
    assert_eq!(
        fake.ends(),
        Ends {
            begun: 1,
            handed_over: 0,
            abandoned: 0
        }
    );
    drop(answer);
    assert_eq!(
        fake.ends(),
        Ends {
            begun: 1,
            handed_over: 0,
            abandoned: 1
        }
    );

    let mut body = app.call(request(), NEARBY).await.into_body();
    let length = body.size_hint().exact();
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(length, frame.data_ref().map(|data| data.len() as u64));
    assert_eq!(
        fake.ends(),
        Ends {
            begun: 2,
            handed_over: 1,
            abandoned: 1
        }
    );
    assert!(body.is_end_stream() && body.frame().await.is_none());
}
