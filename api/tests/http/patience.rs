//! Callers that take their time, and more than their share.

use std::time::{Duration, Instant};

use evermind_api::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fake::{API_KEY, Answer};
use crate::server::{
    BODY, Reply, Server, head, post, read_one, read_to_close, right_headers, short, within,
};

#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_is_cut_off() {
    let server = Server::with(Answer::Grant, short()).await;
    let mut silent = server.connect().await;
    let mut halted = server.connect().await;
    halted
        .write_all(b"GET /livez HTTP/1.1\r\nhos")
        .await
        .unwrap();
    assert!(read_to_close(&mut silent).await.is_empty());
    assert_eq!(Reply::parse(&read_to_close(&mut halted).await).status, 408);

    // A byte now and then does not buy time.
    let (mut reader, mut writer) = server.connect().await.into_split();
    let began = Instant::now();
    let trickle = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut bytes = Vec::new();
    let _ = within(tokio::io::AsyncReadExt::read_to_end(
        &mut reader,
        &mut bytes,
    ))
    .await;
    assert!(began.elapsed() < Duration::from_secs(3));
    within(trickle).await.unwrap();
}

#[tokio::test]
async fn a_body_that_does_not_come_to_its_end_is_408() {
    let server = Server::with(Answer::Grant, short()).await;
    for lines in [
        "host: t\r\ncontent-length: 11",
        "host: t\r\ntransfer-encoding: chunked",
        "host: t\r\ncontent-length: 11\r\nexpect: 100-continue",
    ] {
        let answer = server.raw(head(lines)).await;
        let text = String::from_utf8(answer).unwrap();
        let text = text
            .strip_prefix("HTTP/1.1 100 Continue\r\n\r\n")
            .unwrap_or(&text);
        let reply = Reply::parse(text.as_bytes());
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (408, "request_timeout"),
            "{lines}"
        );
        assert_eq!(reply.header("connection"), Some("close"));
    }
    assert!(server.fake.acquires().is_empty());
}

#[tokio::test]
async fn an_idle_connection_is_kept_a_while_and_then_closed() {
    let limits = Limits {
        head_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_secs(2),
        ..Limits::default()
    };
    let server = Server::with(Answer::Grant, limits).await;
    let mut stream = server.connect().await;
    let request = head("host: t\r\ncontent-length: 11") + BODY;
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_one(&mut stream).await.status, 200);
    // Longer than a head may take, shorter than idleness may last.
    tokio::time::sleep(Duration::from_millis(500)).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_one(&mut stream).await.status, 200);
    let idle_since = Instant::now();
    assert!(read_to_close(&mut stream).await.is_empty());
    assert!(idle_since.elapsed() >= Duration::from_millis(1_500));
}

#[tokio::test]
async fn a_request_in_work_is_not_idle() {
    let server = Server::with(Answer::Wait, short()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(&post("/lock/acquire", &right_headers(), BODY))
        .await
        .unwrap();
    server.fake.until(|ends| ends.begun == 1).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    server.fake.answer(Answer::Grant);
    assert_eq!(read_one(&mut stream).await.status, 200);
}

#[tokio::test]
async fn a_slow_second_head_is_cut_off_like_a_first() {
    let limits = Limits {
        head_timeout: Duration::from_millis(500),
        ..Limits::default()
    };
    let server = Server::with(Answer::Grant, limits).await;
    let mut stream = server.connect().await;
    stream
        .write_all((head("host: t\r\ncontent-length: 11") + BODY).as_bytes())
        .await
        .unwrap();
    assert_eq!(read_one(&mut stream).await.status, 200);
    stream.write_all(b"POST").await.unwrap();
    // Were it timed as idle, this would take 75 s.
    assert_eq!(Reply::parse(&read_to_close(&mut stream).await).status, 408);
}

/// A connection on which a valid key was shown.
async fn with_key(server: &Server) -> TcpStream {
    let mut stream = server.connect().await;
    let request = format!("{LOOK}authorization: Bearer {API_KEY}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_one(&mut stream).await.status, 200);
    stream
}

const LOOK: &str = "GET /v1/locks/k HTTP/1.1\r\nhost: t\r\n";

#[tokio::test]
async fn beyond_the_limit_health_is_answered_and_nothing_else() {
    let limits = Limits {
        connections_max: 2,
        ..Limits::default()
    };
    let server = Server::with(Answer::Wait, limits).await;
    let mut waiting = waits(&server, 2).await;
    assert_eq!(server.get("/v1/locks/k").await.status, 503);
    for path in ["/livez", "/readyz"] {
        let answer = server.raw(format!("GET {path} HTTP/1.0\r\n\r\n")).await;
        assert_eq!(Reply::parse(&answer).status, 200, "{path}");
    }
    drop(waiting.pop());
    // The place is free as soon as the server has seen the end.
    within(async { while server.get("/v1/locks/k").await.status == 503 {} }).await;
}

/// So many connections, each with an acquire that waits.
async fn waits(server: &Server, count: usize) -> Vec<TcpStream> {
    let mut waiting = Vec::new();
    for begun in 1..=count {
        let mut stream = server.connect().await;
        let acquire = post("/lock/acquire", &right_headers(), BODY);
        stream.write_all(&acquire).await.unwrap();
        server.fake.until(|ends| ends.begun == begun).await;
        waiting.push(stream);
    }
    waiting
}

#[tokio::test]
async fn where_all_have_shown_a_key_the_one_that_is_idle_for_longest_makes_room() {
    let limits = Limits {
        connections_max: 3,
        ..Limits::default()
    };
    let server = Server::with(Answer::Wait, limits).await;
    let mut waiting = waits(&server, 1).await;
    let mut idle = with_key(&server).await;
    let mut kept = with_key(&server).await;
    assert_eq!(server.get("/v1/locks/k").await.status, 200);
    assert!(read_to_close(&mut idle).await.is_empty());
    let request = format!("{LOOK}authorization: Bearer {API_KEY}\r\n\r\n");
    kept.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_one(&mut kept).await.status, 200);
    server.fake.answer(Answer::Grant);
    assert_eq!(read_one(&mut waiting[0]).await.status, 200);
}

#[tokio::test]
async fn a_connection_without_a_key_makes_room_for_another() {
    let limits = Limits {
        connections_max: 2,
        ..Limits::default()
    };
    let server = Server::with(Answer::Grant, limits).await;
    let mut kept = with_key(&server).await;
    for _ in 0..3 {
        let mut idle = server.connect().await;
        idle.write_all(b"GET /livez HTTP/1.1\r\nhost: t\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(read_one(&mut idle).await.status, 200);
        assert_eq!(server.get("/v1/locks/k").await.status, 200);
        assert!(read_to_close(&mut idle).await.is_empty());
    }
    let request = format!("{LOOK}authorization: Bearer {API_KEY}\r\n\r\n");
    kept.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_one(&mut kept).await.status, 200);
}

#[tokio::test]
async fn a_wait_keeps_its_place_from_the_moment_its_key_is_known() {
    let limits = Limits {
        connections_max: 4,
        ..Limits::default()
    };
    let server = Server::with(Answer::Wait, limits).await;
    let mut waiting = waits(&server, 3).await;
    // The last place changes hands all the while.
    for _ in 0..3 {
        let mut silent = server.connect().await;
        assert_eq!(server.get("/livez").await.status, 200);
        assert!(read_to_close(&mut silent).await.is_empty());
    }
    server.fake.answer(Answer::Grant);
    for stream in &mut waiting {
        assert_eq!(read_one(stream).await.status, 200);
    }
}

#[tokio::test]
async fn the_waits_of_one_licence_leave_a_tenth_of_the_connections_to_others() {
    let limits = Limits {
        connections_max: 10,
        ..Limits::default()
    };
    let server = Server::with(Answer::Wait, limits).await;
    let mut waiting = waits(&server, 9).await;
    let mut refused = server.connect().await;
    let acquire = post("/lock/acquire", &right_headers(), BODY);
    refused.write_all(&acquire).await.unwrap();
    let refused = read_one(&mut refused).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["code"], "limit_reached");
    assert_eq!(server.get("/v1/locks/k").await.status, 200);
    server.fake.answer(Answer::Grant);
    for stream in &mut waiting {
        assert_eq!(read_one(stream).await.status, 200);
    }
}

#[tokio::test]
async fn a_connection_with_a_request_in_work_is_not_the_idle_one() {
    let limits = Limits {
        connections_max: 2,
        ..Limits::default()
    };
    let server = Server::with(Answer::Grant, limits).await;
    let mut asking = server.connect().await;
    let mut silent = server.connect().await;
    let request = head("host: t\r\ncontent-length: 2").replace("/lock/acquire", "/api-key");
    asking.write_all(request.as_bytes()).await.unwrap();
    // The server waits for the body now.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.get("/v1/locks/k").await.status, 200);
    assert!(read_to_close(&mut silent).await.is_empty());
    asking.write_all(b"{}").await.unwrap();
    assert_eq!(read_one(&mut asking).await.status, 400);
}

#[tokio::test]
async fn many_of_one_address_that_come_at_once_are_served_while_there_is_room() {
    let limits = Limits {
        connections_max: 8,
        ..Limits::default()
    };
    let server = Server::with(Answer::Grant, limits).await;
    let mut all = Vec::new();
    for _ in 0..8 {
        all.push(server.connect().await);
    }
    // The server has them all before the first of them asks.
    assert_eq!(server.get("/livez").await.status, 200);
    assert!(read_to_close(&mut all.remove(0)).await.is_empty());
    for stream in &mut all {
        let request = format!("{LOOK}authorization: Bearer {API_KEY}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(read_one(stream).await.status, 200);
    }
}

#[tokio::test]
async fn a_connection_without_a_key_is_not_kept_long() {
    let limits = Limits {
        keyless_idle_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = Server::with(Answer::Grant, limits).await;
    let mut kept = with_key(&server).await;
    let mut idle = server.connect().await;
    let wrong = format!("{LOOK}authorization: Bearer evk_wrong\r\n\r\n");
    idle.write_all(wrong.as_bytes()).await.unwrap();
    assert_eq!(read_one(&mut idle).await.status, 401);
    assert!(read_to_close(&mut idle).await.is_empty());
    let request = format!("{LOOK}authorization: Bearer {API_KEY}\r\n\r\n");
    kept.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_one(&mut kept).await.status, 200);
}

#[tokio::test]
async fn a_node_that_never_answers_is_504() {
    let limits = Limits {
        answer_margin: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = Server::with(Answer::Wait, limits).await;
    let acquire = r#"{"key":"k","retryAttempts":1,"retryDelay":300}"#;
    let began = Instant::now();
    let reply = server.post("/lock/acquire", acquire).await;
    assert!(began.elapsed() >= Duration::from_millis(400));
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (504, "outcome_unknown")
    );
    assert!(reply.json()["acquired"].is_null());
    let reply = server
        .post("/lock/release", r#"{"key":"k","uuid":"u"}"#)
        .await;
    assert_eq!(reply.status, 504);
    assert!(reply.json()["released"].is_null());
    assert_eq!(server.fake.ends().abandoned, 1);
}

#[tokio::test]
async fn who_asks_and_does_not_read_is_cut_off() {
    let server = Server::with(Answer::Grant, short()).await;
    let mut stream = server.connect_with_small_buffer().await;
    let asks =
        format!("GET /v1/cluster HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {API_KEY}\r\n\r\n");
    let asks = asks.repeat(100);
    // Ends when the server closes: until then the write waits for room.
    within(async { while stream.write_all(asks.as_bytes()).await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_byte_now_and_then_buys_a_slow_reader_no_time() {
    let limits = Limits {
        write_timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    let server = Server::with(Answer::Grant, limits).await;
    let mut stream = server.connect_with_small_buffer().await;
    // An answer of more than 64 KiB.
    stream
        .write_all(b"GET /openapi.json HTTP/1.1\r\nhost: t\r\n\r\n")
        .await
        .unwrap();
    // Some 5 KiB a second, and never silent for as long as a reader may be: a window this small opens
    // again every few reads.
    let mut some = [0; 512];
    let mut read = 0;
    while let Ok(bytes @ 1..) = stream.read(&mut some).await {
        read += bytes;
        assert!(read < 32 * 1024, "it is read on and on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
