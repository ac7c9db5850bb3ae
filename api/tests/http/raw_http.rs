//! Bytes that are not quite HTTP.

use tokio::io::AsyncWriteExt;

use crate::fake::Answer;
use crate::server::{
    BODY, Reply, Server, head, post, read_one, read_to_close, right_headers, short, within,
};

const CHUNKS: &str = "b\r\n{\"key\":\"k\"}\r\n0\r\n\r\n";

/// An acquire, with these lines in its head.
fn acquire(lines: &str, body: &str) -> Vec<u8> {
    format!("{}{body}", head(lines)).into()
}

/// What is sent, and the answer's status; `None` for a connection closed without one.
#[rustfmt::skip]
fn rows() -> Vec<(&'static str, Vec<u8>, Option<u16>)> {
    let many = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect::<Vec<_>>().concat();
    let huge = "x".repeat(500_000);
    let smuggled = format!("{CHUNKS}GET /livez HTTP/1.1\r\nhost: t\r\n\r\n");
    vec![
        ("in order", acquire("host: t\r\ncontent-length: 11\r\nconnection: close", BODY), Some(200)),
        ("chunked", acquire("host: t\r\ntransfer-encoding: chunked", CHUNKS), Some(200)),
        // Read by its chunks, and closed behind the answer: nothing can be smuggled after it.
        ("both lengths", acquire("host: t\r\ncontent-length: 4\r\ntransfer-encoding: chunked", &smuggled), Some(200)),
        ("both lengths, other order", acquire("host: t\r\ntransfer-encoding: chunked\r\ncontent-length: 4", &smuggled), Some(200)),
        ("two different lengths", acquire("host: t\r\ncontent-length: 11\r\ncontent-length: 4", BODY), Some(400)),
        ("signed length", acquire("host: t\r\ncontent-length: +11", BODY), Some(400)),
        ("list of lengths", acquire("host: t\r\ncontent-length: 11, 4", BODY), Some(400)),
        ("huge length", acquire("host: t\r\ncontent-length: 18446744073709551616", BODY), Some(400)),
        ("unknown coding", acquire("host: t\r\ntransfer-encoding: gzip", BODY), Some(400)),
        ("chunked, then more", acquire("host: t\r\ntransfer-encoding: chunked, identity", CHUNKS), Some(400)),
        ("coding within chunks", acquire("host: t\r\ntransfer-encoding: gzip, chunked", CHUNKS), Some(400)),
        ("coding within chunks, in two lines", acquire("host: t\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked", CHUNKS), Some(400)),
        ("bad chunk", acquire("host: t\r\ntransfer-encoding: chunked", "zz\r\n"), Some(400)),
        ("no host", acquire("content-length: 11", BODY), Some(400)),
        ("two hosts", acquire("host: t\r\nhost: u\r\ncontent-length: 11", BODY), Some(400)),
        ("HTTP/1.0 without host", b"GET /livez HTTP/1.0\r\n\r\n".to_vec(), Some(200)),
        // RFC 9112, section 2.2: a recipient may take a lone LF as the end of a line.
        ("bare LF", b"GET /livez HTTP/1.1\nhost: t\nconnection: close\n\n".to_vec(), Some(200)),
        ("bare CR", b"GET /livez HTTP/1.1\rhost: t\r\r".to_vec(), Some(400)),
        ("folded header", b"GET /livez HTTP/1.1\r\nhost: t\r\nx: a\r\n b\r\n\r\n".to_vec(), Some(400)),
        ("space before the colon", b"GET /livez HTTP/1.1\r\nhost : t\r\n\r\n".to_vec(), Some(400)),
        ("NUL in a header", b"GET /livez HTTP/1.1\r\nhost: t\0\r\n\r\n".to_vec(), Some(400)),
        ("101 headers", format!("GET /livez HTTP/1.1\r\n{many}\r\n").into(), Some(431)),
        ("head of 32,000 bytes", format!("GET /livez HTTP/1.1\r\nhost: t\r\nconnection: close\r\nx: {}\r\n\r\n", &huge[..31_900]).into(), Some(200)),
        ("head of 33,000 bytes", format!("GET /livez HTTP/1.1\r\nhost: t\r\nx: {}\r\n\r\n", &huge[..33_000]).into(), Some(431)),
        ("500 KB header", format!("GET /livez HTTP/1.1\r\nx: {huge}\r\n\r\n").into(), Some(431)),
        ("500 KB path", format!("GET /{huge} HTTP/1.1\r\nhost: t\r\n\r\n").into(), Some(431)),
        ("HTTP/0.9", b"GET /livez\r\n\r\n".to_vec(), Some(400)),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), None),
        ("HTTP/3.0", b"GET /livez HTTP/3.0\r\nhost: t\r\n\r\n".to_vec(), Some(400)),
        ("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\xaa\xbb\xcc".to_vec(), Some(400)),
        ("random bytes", b"\xf3\x00\x91\n\r\n\x7f\xff\xc0\n\n".to_vec(), Some(400)),
        ("TRACE", b"TRACE / HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n".to_vec(), Some(404)),
        ("CONNECT", b"CONNECT t:443 HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n".to_vec(), Some(404)),
        ("OPTIONS *", b"OPTIONS * HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n".to_vec(), Some(404)),
        ("absolute form", b"GET http://t/livez HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n".to_vec(), Some(200)),
        ("nothing", vec![], None),
    ]
}

#[tokio::test]
async fn bytes_that_are_not_quite_http() {
    let server = Server::with(Answer::Grant, short()).await;
    for (name, bytes, expected) in rows() {
        let mut stream = server.connect().await;
        let _ = stream.write_all(&bytes).await;
        let answer = read_to_close(&mut stream).await;
        let shown = String::from_utf8_lossy(&answer).into_owned();
        let status = (!answer.is_empty()).then(|| Reply::parse(&answer).status);
        assert_eq!(status, expected, "{name}: {shown}");
        let answers = shown.matches("HTTP/1.").count();
        assert_eq!(answers, usize::from(expected.is_some()), "{name}: {shown}");
    }
    // It still serves.
    assert_eq!(server.get("/livez").await.status, 200);
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
async fn a_body_may_come_in_pieces() {
    let server = Server::start(Answer::Grant).await;
    let body = r#"{"key":"in pieces","lease":1234,"uuid":"u","fifo":true}"#;
    let chunks = body
        .chars()
        .map(|c| format!("1\r\n{c}\r\n"))
        .collect::<Vec<_>>()
        .concat();
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
