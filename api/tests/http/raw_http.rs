//! Bytes that are not quite HTTP, and callers that take their time.

use std::time::{Duration, Instant};

use evermind_api::Limits;
use tokio::io::AsyncWriteExt;

use crate::fake::{API_KEY, Answer};
use crate::server::{Reply, Server, post, read_one, read_to_close, right_headers, within};

const BODY: &str = r#"{"key":"k"}"#;

/// Short enough to be waited for.
fn short() -> Limits {
    Limits {
        head_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(600),
        write_timeout: Duration::from_millis(300),
        ..Limits::default()
    }
}

/// The head of an acquire, with these lines besides.
fn head(lines: &str) -> String {
    format!(
        "POST /lock/acquire HTTP/1.1\r\nauthorization: Bearer {API_KEY}\r\ncontent-type: application/json\r\n{lines}\r\n\r\n"
    )
}

/// The first answer's status; `None` for a connection closed without one.
fn status(answer: &[u8]) -> Option<u16> {
    (!answer.is_empty()).then(|| Reply::parse(answer).status)
}

#[tokio::test]
async fn bytes_that_are_not_quite_http() {
    let many: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
    let huge = format!("x: {}\r\n", "x".repeat(500_000));
    let body_11 = "content-length: 11\r\nconnection: close";
    let chunks = "b\r\n{\"key\":\"k\"}\r\n0\r\n\r\n";
    let rows: Vec<(&str, Vec<u8>, Option<u16>)> = vec![
        (
            "in order",
            format!("{}{BODY}", head(&format!("host: t\r\n{body_11}"))).into(),
            Some(200),
        ),
        (
            "chunked",
            format!("{}{chunks}", head("host: t\r\ntransfer-encoding: chunked")).into(),
            Some(200),
        ),
        // Read by its chunks, and closed behind the answer: nothing can be smuggled after it.
        (
            "both lengths",
            format!(
                "{}{chunks}GET /livez HTTP/1.1\r\nhost: t\r\n\r\n",
                head("host: t\r\ncontent-length: 4\r\ntransfer-encoding: chunked")
            )
            .into(),
            Some(200),
        ),
        (
            "both lengths, other order",
            format!(
                "{}{chunks}",
                head("host: t\r\ntransfer-encoding: chunked\r\ncontent-length: 4")
            )
            .into(),
            Some(200),
        ),
        (
            "two different lengths",
            format!(
                "{}{BODY}",
                head("host: t\r\ncontent-length: 11\r\ncontent-length: 4")
            )
            .into(),
            Some(400),
        ),
        (
            "signed length",
            format!("{}{BODY}", head("host: t\r\ncontent-length: +11")).into(),
            Some(400),
        ),
        (
            "list of lengths",
            format!("{}{BODY}", head("host: t\r\ncontent-length: 11, 4")).into(),
            Some(400),
        ),
        (
            "unknown coding",
            format!("{}{BODY}", head("host: t\r\ntransfer-encoding: gzip")).into(),
            Some(400),
        ),
        (
            "chunked twice over",
            format!(
                "{}{chunks}",
                head("host: t\r\ntransfer-encoding: chunked, identity")
            )
            .into(),
            Some(400),
        ),
        (
            "bad chunk",
            format!("{}zz\r\n", head("host: t\r\ntransfer-encoding: chunked")).into(),
            Some(400),
        ),
        (
            "no host",
            format!("{}{BODY}", head(body_11)).into(),
            Some(400),
        ),
        (
            "two hosts",
            format!(
                "{}{BODY}",
                head(&format!("host: t\r\nhost: u\r\n{body_11}"))
            )
            .into(),
            Some(400),
        ),
        (
            "HTTP/1.0 without host",
            b"GET /livez HTTP/1.0\r\n\r\n".to_vec(),
            Some(200),
        ),
        // RFC 9112, section 2.2: a recipient may take a lone LF as the end of a line.
        (
            "bare LF",
            b"GET /livez HTTP/1.1\nhost: t\nconnection: close\n\n".to_vec(),
            Some(200),
        ),
        (
            "bare CR",
            b"GET /livez HTTP/1.1\rhost: t\r\r".to_vec(),
            Some(400),
        ),
        (
            "folded header",
            b"GET /livez HTTP/1.1\r\nhost: t\r\nx: a\r\n b\r\n\r\n".to_vec(),
            Some(400),
        ),
        (
            "space before the colon",
            b"GET /livez HTTP/1.1\r\nhost : t\r\n\r\n".to_vec(),
            Some(400),
        ),
        (
            "NUL in a header",
            b"GET /livez HTTP/1.1\r\nhost: t\0\r\n\r\n".to_vec(),
            Some(400),
        ),
        (
            "101 headers",
            format!("GET /livez HTTP/1.1\r\n{many}\r\n").into(),
            Some(431),
        ),
        (
            "500 KB header",
            format!("GET /livez HTTP/1.1\r\n{huge}\r\n").into(),
            Some(431),
        ),
        (
            "500 KB path",
            format!("GET /{} HTTP/1.1\r\nhost: t\r\n\r\n", "x".repeat(500_000)).into(),
            Some(431),
        ),
        ("HTTP/0.9", b"GET /livez\r\n\r\n".to_vec(), Some(400)),
        (
            "HTTP/2 preface",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            None,
        ),
        (
            "HTTP/3.0",
            b"GET /livez HTTP/3.0\r\nhost: t\r\n\r\n".to_vec(),
            Some(400),
        ),
        (
            "TLS hello",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\xaa\xbb\xcc".to_vec(),
            Some(400),
        ),
        (
            "random bytes",
            vec![
                0xf3, 0x00, 0x91, 0x0a, 0x0d, 0x0a, 0x7f, 0xff, 0xc0, 0x0a, 0x0a,
            ],
            Some(400),
        ),
        (
            "TRACE",
            b"TRACE / HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n".to_vec(),
            Some(404),
        ),
        (
            "CONNECT",
            b"CONNECT t:443 HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n".to_vec(),
            Some(404),
        ),
        (
            "OPTIONS *",
            b"OPTIONS * HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n".to_vec(),
            Some(404),
        ),
        (
            "absolute form",
            b"GET http://t/livez HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n".to_vec(),
            Some(200),
        ),
        ("nothing", vec![], None),
    ];
    let server = Server::with(Answer::Grant, short()).await;
    for (name, bytes, expected) in rows {
        let mut stream = server.connect().await;
        let _ = stream.write_all(&bytes).await;
        let answer = read_to_close(&mut stream).await;
        let shown = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(status(&answer), expected, "{name}: {shown}");
        assert_eq!(
            shown.matches("HTTP/1.").count(),
            usize::from(expected.is_some()),
            "{name}: {shown}"
        );
    }
    // It still serves.
    assert_eq!(server.get("/livez").await.status, 200);
}

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
    assert!(read_to_close(&mut halted).await.is_empty());

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
async fn who_asks_first_is_told_before_sending() {
    let server = Server::with(Answer::Grant, short()).await;
    for (lines, status) in [
        (
            "host: t\r\ncontent-length: 3000000\r\nexpect: 100-continue",
            413,
        ),
        (
            "host: t\r\ncontent-encoding: gzip\r\ncontent-length: 11\r\nexpect: 100-continue",
            415,
        ),
    ] {
        let reply = Reply::parse(&server.raw(head(lines)).await);
        assert_eq!(reply.status, status, "{lines}");
    }
    let mut stream = server.connect().await;
    stream
        .write_all(head("host: t\r\ncontent-length: 11\r\nexpect: 100-continue").as_bytes())
        .await
        .unwrap();
    let mut go_on = [0; 25];
    within(tokio::io::AsyncReadExt::read_exact(&mut stream, &mut go_on))
        .await
        .unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(BODY.as_bytes()).await.unwrap();
    assert_eq!(read_one(&mut stream).await.status, 200);
}

#[tokio::test]
async fn an_idle_connection_is_kept_a_while_and_then_closed() {
    let server = Server::with(Answer::Grant, short()).await;
    let mut stream = server.connect().await;
    let request = head("host: t\r\ncontent-length: 11") + BODY;
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_one(&mut stream).await.status, 200);
    // Longer than a head may take, shorter than idleness may last.
    tokio::time::sleep(Duration::from_millis(400)).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_one(&mut stream).await.status, 200);
    let idle_since = Instant::now();
    assert!(read_to_close(&mut stream).await.is_empty());
    assert!(idle_since.elapsed() >= Duration::from_millis(500));
    assert!(idle_since.elapsed() < Duration::from_secs(3));
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
    tokio::time::sleep(Duration::from_millis(900)).await;
    server.fake.answer(Answer::Grant);
    assert_eq!(read_one(&mut stream).await.status, 200);
}

#[tokio::test]
async fn a_slow_second_head_is_cut_off_like_a_first() {
    let server = Server::with(Answer::Grant, short()).await;
    let mut stream = server.connect().await;
    stream
        .write_all((head("host: t\r\ncontent-length: 11") + BODY).as_bytes())
        .await
        .unwrap();
    assert_eq!(read_one(&mut stream).await.status, 200);
    stream.write_all(b"POST").await.unwrap();
    let began = Instant::now();
    assert!(read_to_close(&mut stream).await.is_empty());
    assert!(
        began.elapsed() < Duration::from_millis(550),
        "it was timed as idle"
    );
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order() {
    let server = Server::with(Answer::Grant, short()).await;
    let mut stream = server.connect().await;
    let one = |id: u8| {
        head(&format!(
            "host: t\r\nx-request-id: {id}\r\ncontent-length: 11"
        )) + BODY
    };
    let all: String = (1..=3).map(one).collect();
    stream.write_all(all.as_bytes()).await.unwrap();
    let text = String::from_utf8(read_to_close(&mut stream).await).unwrap();
    let ids: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("x-request-id: "))
        .collect();
    assert_eq!(ids, ["1", "2", "3"]);
}

#[tokio::test]
async fn one_connection_too_many_is_told_503() {
    let limits = Limits {
        connections_max: 1,
        ..Limits::default()
    };
    let server = Server::with(Answer::Grant, limits).await;
    let mut first = server.connect().await;
    first
        .write_all(b"GET /livez HTTP/1.1\r\nhost: t\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(read_one(&mut first).await.status, 200);
    let mut second = server.connect().await;
    assert_eq!(status(&read_to_close(&mut second).await), Some(503));
    drop(first);
    // The place is free as soon as the server has seen the end.
    within(async {
        while server
            .raw("GET /livez HTTP/1.0\r\n\r\n")
            .await
            .starts_with(b"HTTP/1.1 503")
        {}
    })
    .await;
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
async fn a_body_may_come_in_pieces() {
    let server = Server::start(Answer::Grant).await;
    let body = r#"{"key":"in pieces","lease":1234,"uuid":"u","fifo":true}"#;
    let chunks: String = body.chars().map(|c| format!("1\r\n{c}\r\n")).collect();
    let chunked = format!(
        "{}{chunks}0\r\n\r\n",
        head("host: t\r\ntransfer-encoding: chunked")
    );
    let reply = Reply::parse(&server.raw(chunked).await);
    assert_eq!(reply.json()["config"]["key"], "in pieces", "{reply:?}");

    let mut stream = server.connect().await;
    let lengthy = post("/lock/acquire", &right_headers(), body);
    for piece in lengthy.chunks(9) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(read_one(&mut stream).await.json()["config"]["fifo"], true);
}
