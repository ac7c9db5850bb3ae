//! What a server may be sent instead of a request, and what must come of it.

/// A body that is well.
pub(super) const BODY: &str = r#"{"key":"k","uuid":"u","retryAttempts":0}"#;

/// What must come of some bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expect {
    /// This status.
    Status(u16),
    /// One of these.
    AnyOf(&'static [u16]),
    /// This status, or no answer and a closed connection.
    StatusOrClose(&'static [u16]),
    /// This status, or a refusal, and in any case nothing else on this connection: what follows
    /// may be a second request that a proxy took for this one's body.
    LastOf(u16),
}

impl Expect {
    pub(super) fn is_met(self, got: Result<u16, Closed>) -> bool {
        match (self, got) {
            (Expect::Status(status), Ok(got)) => got == status,
            (Expect::AnyOf(allowed) | Expect::StatusOrClose(allowed), Ok(got)) => {
                allowed.contains(&got)
            }
            (Expect::LastOf(status), Ok(got)) => got == status || got == 400,
            (Expect::StatusOrClose(_) | Expect::LastOf(_), Err(Closed::Yes)) => true,
            (_, Err(_)) => false,
        }
    }
}

/// No answer came; whether the connection was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    Yes,
    No,
}

/// A POST with these header lines instead of the usual ones.
pub(super) fn acquire(api_key: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /lock/acquire HTTP/1.1\r\nAuthorization: Bearer {api_key}\r\n\
         Content-Type: application/json\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

/// What is sent, its bytes, and what must come of it.
pub(super) type Row = (&'static str, Vec<u8>, Expect);

const REFUSED: Expect = Expect::StatusOrClose(&[400]);
const TOO_LARGE: Expect = Expect::StatusOrClose(&[400, 414, 431]);
const VERSION: Expect = Expect::StatusOrClose(&[400, 505]);

/// The whole table.
pub(super) fn rows(api_key: &str) -> Vec<Row> {
    let mut rows = framing(api_key);
    rows.extend(heads());
    rows.extend(lines());
    rows.extend(other_protocols());
    rows
}

/// Where a body ends. Two parties that disagree on it can be played against each other.
fn framing(api_key: &str) -> Vec<Row> {
    let chunks = format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len());
    let length = format!("Content-Length: {}\r\n", BODY.len());
    let chunked = "Transfer-Encoding: chunked\r\n";
    let ask = |headers: &str, body: &str| acquire(api_key, headers, body);
    let hosted = |headers: &str, body: &str| ask(&format!("Host: a\r\n{headers}"), body);
    // RFC 9112, 6.1: the chunks count, and the connection ends behind the answer.
    let smuggled = format!("{chunks}GET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
    let both = format!("{length}{chunked}");
    let other_way_round = format!("{chunked}Content-Length: 4\r\n");
    let two_lengths = "Content-Length: 4\r\nContent-Length: 40\r\n";
    vec![
        (
            "as it should be",
            hosted(&length, BODY),
            Expect::Status(200),
        ),
        ("in chunks", hosted(chunked, &chunks), Expect::Status(200)),
        (
            "a length and chunks",
            hosted(&both, &smuggled),
            Expect::LastOf(200),
        ),
        (
            "chunks and a length",
            hosted(&other_way_round, &smuggled),
            Expect::LastOf(200),
        ),
        ("two lengths", hosted(two_lengths, BODY), REFUSED),
        (
            "a length below zero",
            hosted("Content-Length: -1\r\n", BODY),
            REFUSED,
        ),
        (
            "a length of words",
            hosted("Content-Length: forty\r\n", BODY),
            REFUSED,
        ),
        (
            "an unknown coding",
            hosted("Transfer-Encoding: gzip\r\n", BODY),
            REFUSED,
        ),
        ("a chunk of no length", hosted(chunked, "zz\r\n"), REFUSED),
        ("no host", ask(&length, BODY), Expect::Status(400)),
        (
            "two hosts",
            hosted(&format!("Host: b\r\n{length}"), BODY),
            Expect::Status(400),
        ),
    ]
}

/// Headers.
fn heads() -> Vec<Row> {
    let get = |rest: &str| format!("GET /livez HTTP/1.1\r\nHost: a\r\n{rest}\r\n").into_bytes();
    let many: String = (0..101).fold(String::new(), |all, n| format!("{all}X-{n}: 1\r\n"));
    let wide = format!("X-Wide: {}\r\n", "w".repeat(500_000));
    // RFC 9112, 2.2: a recipient may take a bare LF for a line's end.
    let bare = b"GET /livez HTTP/1.1\nHost: a\n\n".to_vec();
    vec![
        ("bare line feeds", bare, Expect::StatusOrClose(&[200, 400])),
        ("a bare carriage return", get("X-A: 1\rX-B: 2\r\n"), REFUSED),
        ("NUL in a header", get("X-A: a\0b\r\n"), REFUSED),
        ("a space before the colon", get("X-A : 1\r\n"), REFUSED),
        ("a folded line", get("X-A: 1\r\n  2\r\n"), REFUSED),
        ("101 headers", get(&many), TOO_LARGE),
        ("a header of 500 KB", get(&wide), TOO_LARGE),
    ]
}

/// Request lines.
fn lines() -> Vec<Row> {
    let line = |text: &str| format!("{text} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    let long = line(&format!("GET /{}", "p".repeat(100_000)));
    let not_found = Expect::Status(404);
    let not_allowed = Expect::Status(405);
    vec![
        ("a path of 100 KB", long, TOO_LARGE),
        ("an unknown path", line("GET /nothing"), not_found),
        (
            "another path's method",
            line("GET /lock/acquire"),
            not_allowed,
        ),
        ("an unknown method", line("LOCK /lock/acquire"), not_allowed),
        ("TRACE", line("TRACE /livez"), Expect::AnyOf(&[404, 405])),
        (
            "CONNECT",
            line("CONNECT a:1"),
            Expect::StatusOrClose(&[400, 404, 405]),
        ),
        ("HTTP/0.9", b"GET /livez\r\n\r\n".to_vec(), REFUSED),
        (
            "HTTP/9.9",
            b"GET /livez HTTP/9.9\r\nHost: a\r\n\r\n".to_vec(),
            VERSION,
        ),
    ]
}

/// What is meant for another kind of server, or for none.
fn other_protocols() -> Vec<Row> {
    let hello = [
        &[0x16, 3, 1, 0, 0xC8, 1, 0, 0, 0xC4, 3, 3][..],
        &[0x5A; 196],
    ]
    .concat();
    // Knuth's multiplicative hash: the same noise in every run.
    let noise = (1..=4096_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    vec![
        (
            "HTTP/2 at once",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            VERSION,
        ),
        ("a TLS hello", hello, REFUSED),
        ("noise", noise, REFUSED),
    ]
}
