//! Callers that go away.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use evermind_api::{Access, App, Limits, Listen, Socket};
use evermind_lock::names::Holder;
use evermind_lock::outcome::{Granted, Outcome};
use http::Request;
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::fake::{API_KEY, Answer, Ends, Fake};
use crate::server::{BODY, Server, head, post, read_one, read_to_close, right_headers, within};

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
async fn a_caller_that_sent_more_and_goes_leaves_the_line() {
    let requests = "GET /livez HTTP/1.1\r\nhost: t\r\n\r\n".repeat(1_000);
    for sent_ahead in ["\r\n", "G", &requests[..60], &requests[..12_000], &requests] {
        for resets in [false, true] {
            let server = Server::start(Answer::Wait).await;
            let mut stream = in_line(&server).await;
            stream.write_all(sent_ahead.as_bytes()).await.unwrap();
            if resets {
                stream.set_zero_linger().unwrap();
            }
            drop(stream);
            given_up_within_a_second(&server).await;
        }
    }
}

#[tokio::test]
async fn what_was_sent_ahead_of_a_wait_is_answered_after_it() {
    let server = Server::start(Answer::Wait).await;
    let mut stream = server.connect().await;
    let acquire = head("host: t\r\ncontent-length: 11") + BODY;
    stream.write_all(acquire.as_bytes()).await.unwrap();
    server.fake.until(|ends| ends.begun == 1).await;
    for part in [
        "GET /livez HTTP/1.1\r\nho",
        "st: t\r\nconnection: close\r\n\r\n",
    ] {
        stream.write_all(part.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
    server.fake.answer(Answer::Grant);
    let answers = String::from_utf8(read_to_close(&mut stream).await).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    assert!(answers.ends_with(r#"{"alive":true}"#), "{answers}");
}

fn granted_after_a_wait() -> Answer {
    Answer::Outcome(Outcome::Granted(Granted {
        holder: Holder::new("u").unwrap(),
        fencing_token: 42,
        expires_in_ms: 1_000,
        waited_ms: 5,
        attempts: 1,
    }))
}

#[tokio::test]
async fn a_grant_after_a_wait_is_handed_over_once() {
    let server = Server::start(Answer::Wait).await;
    let mut stream = in_line(&server).await;
    server.fake.answer(granted_after_a_wait());
    assert_eq!(read_one(&mut stream).await.status, 200);
    server.fake.until(|ends| ends.handed_over == 1).await;
    assert_eq!(server.fake.ends().abandoned, 0);
}

/// A connection of which the system may know the end before the runtime does.
struct Ended {
    stream: DuplexStream,
    is_known: bool,
}

struct One(Option<Ended>);

impl Listen for One {
    type Socket = Ended;

    async fn accept(&mut self) -> io::Result<(Ended, SocketAddr)> {
        match self.0.take() {
            Some(socket) => Ok((socket, SocketAddr::from((NEARBY, 1)))),
            None => std::future::pending().await,
        }
    }
}

impl Socket for Ended {
    fn has_ended(&self) -> bool {
        self.is_known
    }
}

impl AsyncRead for Ended {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Ended {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_grant_after_a_wait_is_not_written_to_a_caller_that_has_just_gone() {
    for (answer, written) in [(granted_after_a_wait(), false), (Answer::Grant, true)] {
        let (fake, mut caller, serving) = served(answer, true).await;
        let mut bytes = Vec::new();
        let _ = within(caller.read_to_end(&mut bytes)).await;
        assert_eq!(!bytes.is_empty(), written);
        within(fake.until(|ends| ends.handed_over + ends.abandoned == 1)).await;
        assert_eq!(fake.ends().handed_over, usize::from(written));
        serving.abort();
    }
}

/// A caller that has asked for a lock, on a connection that is not the system's.
async fn served(answer: Answer, is_known: bool) -> (Fake, DuplexStream, JoinHandle<()>) {
    // A grace that no slow machine outlasts.
    let limits = Limits {
        half_close_grace: Duration::from_secs(30),
        ..Limits::default()
    };
    let fake = Fake::new(answer);
    let app = App::new(fake.clone(), limits, Access::default());
    let (mut caller, stream) = tokio::io::duplex(4_096);
    let listener = One(Some(Ended { stream, is_known }));
    let serving = tokio::spawn(evermind_api::serve(listener, app, std::future::pending()));
    let request = post("/lock/acquire", &right_headers(), BODY);
    caller.write_all(&request).await.unwrap();
    (fake, caller, serving)
}

#[tokio::test]
async fn a_grant_after_a_wait_is_not_written_to_a_caller_that_has_half_closed() {
    let (fake, mut caller, serving) = served(Answer::Wait, false).await;
    within(fake.until(|ends| ends.begun == 1)).await;
    caller.shutdown().await.unwrap();
    fake.answer(granted_after_a_wait());
    let mut bytes = Vec::new();
    let _ = within(caller.read_to_end(&mut bytes)).await;
    assert!(bytes.is_empty());
    within(fake.until(|ends| ends.abandoned == 1)).await;
    assert_eq!(fake.ends().handed_over, 0);
    serving.abort();
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
    within(async { while server.get("/v1/locks/k").await.status == 503 {} }).await;
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
