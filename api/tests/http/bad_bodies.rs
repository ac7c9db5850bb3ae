//! Every way in which a body can be wrong, with what its sender is told.

use crate::fake::{Answer, Fake};
use crate::server::Server;

const ACQUIRE: &str = "/lock/acquire";
const EXTEND: &str = "/lock/extend";
const RELEASE: &str = "/lock/release";

/// Not one JSON object: name, body, and what the message says.
#[rustfmt::skip]
const NOT_AN_OBJECT: &[(&str, &[u8], &str)] = &[
    ("empty", b"", "empty"),
    ("blank", b"  ", "JSON object"),
    ("array", br#"["key","k"]"#, "JSON object"),
    ("text", br#""k""#, "JSON object"),
    ("number", b"1", "JSON object"),
    ("null", b"null", "JSON object"),
    ("cut off", br#"{"key":"k""#, "JSON object"),
    ("trailing data", br#"{"key":"k","softFail":true} {}"#, "trailing"),
    ("trailing comma", br#"{"key":"k","softFail":true,}"#, "JSON object"),
    ("byte order mark", b"\xef\xbb\xbf{\"key\":\"k\"}", "byte order mark"),
    ("invalid UTF-8", b"{\"key\":\"\xff\",\"softFail\":true}", "UTF-8"),
    ("UTF-16", b"\xff\xfe{\0}\0", "UTF-8"),
    ("comment", br#"{"key":"k" /* mine */}"#, "JSON object"),
    ("single quotes", b"{'key':'k'}", "JSON object"),
    ("NaN", br#"{"key":"k","lease":NaN}"#, "JSON object"),
    ("Infinity", br#"{"key":"k","lease":Infinity}"#, "JSON object"),
    ("leading zero", br#"{"key":"k","lease":010}"#, "JSON object"),
    ("plus sign", br#"{"key":"k","lease":+1}"#, "JSON object"),
    ("hex", br#"{"key":"k","lease":0x10}"#, "JSON object"),
    ("raw control character", b"{\"key\":\"a\nb\"}", "JSON object"),
    ("lone surrogate in a name", br#"{"\ud800":1}"#, "JSON object"),
    ("form", b"key=k", "JSON object"),
    ("NUL", b"\0", "JSON object"),
    ("softFail twice", br#"{"key":"k","softFail":true,"softFail":true}"#, "softFail"),
    ("softFail as text", br#"{"key":"k","softFail":"true"}"#, "softFail must be true or false"),
    ("softFail as number", br#"{"key":"k","softFail":1}"#, "softFail must be true or false"),
];

/// `softFail` does not help these.
#[tokio::test]
async fn a_body_that_is_not_one_json_object_is_400() {
    let open = "[".repeat(60_000);
    let closed = format!("{}{}", &open[..30_000], "]".repeat(30_000));
    let in_a_field = format!(r#"{{"key":{open}"#);
    let mut rows = NOT_AN_OBJECT.to_vec();
    rows.push(("deep", open.as_bytes(), "JSON object"));
    rows.push(("deep and closed", closed.as_bytes(), "JSON object"));
    rows.push(("deep in a field", in_a_field.as_bytes(), "JSON object"));
    let server = Server::start(Answer::Grant).await;
    for path in [ACQUIRE, EXTEND, RELEASE] {
        for (name, body, fragment) in &rows {
            let reply = server.post(path, body).await;
            assert_eq!(reply.status, 400, "{path} {name}: {reply:?}");
            assert_eq!(reply.code(), "invalid_request", "{path} {name}");
            let message = reply.message();
            assert!(message.contains(fragment), "{path} {name}: {message}");
        }
    }
    untouched(&server.fake);
}

/// Over 64 KiB, a nesting of 100,000 is not even read.
#[tokio::test]
async fn a_nesting_of_a_hundred_thousand_is_too_large() {
    let server = Server::start(Answer::Grant).await;
    let reply = server.post(ACQUIRE, "[".repeat(100_000)).await;
    assert_eq!(reply.status, 413);
}

/// Wrong fields: path, fields, and what the message must name.
#[rustfmt::skip]
const FIELDS: &[(&str, &str, &str)] = &[
    // Any field.
    (ACQUIRE, r#""key":"k","leaze":1"#, "leaze is not a field of this request; allowed are key, lease,"),
    (ACQUIRE, r#""key":"k","extendBy":1"#, "extendBy is not a field"),
    (ACQUIRE, r#""key":"k","Key":"k""#, "Key is not a field"),
    (ACQUIRE, r#""key":"k","key":"k""#, "key stands there more than once"),
    (ACQUIRE, r#""key":"k","k\u0065y":"k""#, "key stands there more than once"),
    (EXTEND, r#""key":"k","uuid":"u","extendBy":1,"lease":1"#, "lease is not a field of this request; allowed are key, uuid, extendBy, softFail"),
    (RELEASE, r#""key":"k","uuid":"u","fifo":true"#, "fifo is not a field of this request; allowed are key, uuid, softFail"),
    // key
    (ACQUIRE, r#""lease":1"#, "key is required"),
    (EXTEND, r#""uuid":"u","extendBy":1"#, "key is required"),
    (RELEASE, r#""uuid":"u""#, "key is required"),
    (ACQUIRE, r#""key":null"#, "key must be a string"),
    (ACQUIRE, r#""key":1"#, "key must be a string"),
    (ACQUIRE, r#""key":["k"]"#, "key must be a string"),
    (ACQUIRE, r#""key":{"a":"k"}"#, "key must be a string"),
    (ACQUIRE, r#""key":true"#, "key must be a string"),
    (ACQUIRE, r#""key":"""#, "key must be 1 to 512 bytes"),
    (ACQUIRE, r#""key":"a\u0000b""#, "key must be 1 to 512 bytes"),
    (ACQUIRE, r#""key":"a\nb""#, "key must be 1 to 512 bytes"),
    (ACQUIRE, r#""key":"a\u0085b""#, "key must be 1 to 512 bytes"),
    (ACQUIRE, r#""key":"\ud800""#, "key must be a string"),
    (ACQUIRE, r#""key":"\udc00\ud800""#, "key must be a string"),
    // lease
    (ACQUIRE, r#""key":"k","lease":0"#, "lease must be a whole number from 1 to 86400000"),
    (ACQUIRE, r#""key":"k","lease":86400001"#, "lease must be a whole number from 1 to 86400000"),
    (ACQUIRE, r#""key":"k","lease":-1"#, "lease must be a whole number"),
    (ACQUIRE, r#""key":"k","lease":-0"#, "lease must be a whole number"),
    (ACQUIRE, r#""key":"k","lease":1.0"#, "lease must be a whole number"),
    (ACQUIRE, r#""key":"k","lease":1.5"#, "in digits alone; it is 1.5"),
    (ACQUIRE, r#""key":"k","lease":1e3"#, "lease must be a whole number"),
    (ACQUIRE, r#""key":"k","lease":1e400"#, "lease must be a whole number"),
    (ACQUIRE, r#""key":"k","lease":"1000""#, r#"it is "1000""#),
    (ACQUIRE, r#""key":"k","lease":9223372036854775808"#, "lease must be a whole number"),
    (ACQUIRE, r#""key":"k","lease":18446744073709551616"#, "lease must be a whole number"),
    (ACQUIRE, r#""key":"k","lease":true"#, "lease must be a whole number"),
    (ACQUIRE, r#""key":"k","lease":[]"#, "lease must be a whole number"),
    // the retries
    (ACQUIRE, r#""key":"k","retryAttempts":1001"#, "retryAttempts must be a whole number from 0 to 1000"),
    (ACQUIRE, r#""key":"k","retryAttempts":-1"#, "retryAttempts must be"),
    (ACQUIRE, r#""key":"k","retryDelay":60001"#, "retryDelay must be a whole number from 0 to 60000"),
    (ACQUIRE, r#""key":"k","retryJitter":60001"#, "retryJitter must be a whole number from 0 to 60000"),
    (ACQUIRE, r#""key":"k","retryAttempts":1000,"retryDelay":601"#, "retryAttempts x (retryDelay + retryJitter) must be at most 600000 ms"),
    (ACQUIRE, r#""key":"k","retryAttempts":10,"retryDelay":60000,"retryJitter":1"#, "it is 600010"),
    // uuid
    (ACQUIRE, r#""key":"k","uuid":"""#, "uuid must be 1 to 128 visible ASCII"),
    (ACQUIRE, r#""key":"k","uuid":"a b""#, "uuid must be 1 to 128 visible ASCII"),
    (ACQUIRE, r#""key":"k","uuid":"\u0007""#, "uuid must be 1 to 128 visible ASCII"),
    (ACQUIRE, r#""key":"k","uuid":"é""#, "uuid must be 1 to 128 visible ASCII"),
    (ACQUIRE, r#""key":"k","uuid":7"#, "uuid must be a string"),
    (EXTEND, r#""key":"k","extendBy":1"#, "uuid is required"),
    (RELEASE, r#""key":"k""#, "uuid is required"),
    (RELEASE, r#""key":"k","uuid":null"#, "uuid must be a string"),
    // fifo
    (ACQUIRE, r#""key":"k","fifo":"true""#, "fifo must be true or false"),
    (ACQUIRE, r#""key":"k","fifo":0"#, "fifo must be true or false"),
    // extendBy
    (EXTEND, r#""key":"k","uuid":"u""#, "extendBy is required"),
    (EXTEND, r#""key":"k","uuid":"u","extendBy":null"#, "extendBy must be a whole number"),
    (EXTEND, r#""key":"k","uuid":"u","extendBy":0"#, "extendBy must be a whole number from 1 to 86400000"),
    (EXTEND, r#""key":"k","uuid":"u","extendBy":86400001"#, "extendBy must be a whole number from 1 to 86400000"),
];

#[tokio::test]
async fn a_wrong_field_is_400_and_named() {
    let mut rows: Vec<(&str, String, &str)> = FIELDS
        .iter()
        .map(|(path, fields, named)| (*path, (*fields).to_owned(), *named))
        .collect();
    // Too long to be written out.
    rows.push((
        ACQUIRE,
        format!(r#""key":"{}""#, "k".repeat(513)),
        "key must be 1 to 512 bytes",
    ));
    rows.push((
        ACQUIRE,
        format!(r#""key":"{}""#, "🔒".repeat(129)),
        "key must be 1 to 512 bytes",
    ));
    rows.push((
        ACQUIRE,
        format!(r#""key":"k","uuid":"{}""#, "u".repeat(129)),
        "uuid must be 1 to 128",
    ));
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    rows.push((ACQUIRE, format!(r#""key":{deep}"#), "key must be a string"));
    rows.push((
        ACQUIRE,
        format!(r#""key":"k","x":{deep}"#),
        "x is not a field",
    ));
    rows.push((
        ACQUIRE,
        format!(r#""key":"k","{}":1"#, "x".repeat(1_000)),
        "xxx… is not a field",
    ));

    let server = Server::start(Answer::Grant).await;
    for (path, fields, named) in &rows {
        let shown: String = fields.chars().take(80).collect();
        let hard = server.post(path, format!("{{{fields}}}")).await;
        assert_eq!(hard.status, 400, "{shown}: {hard:?}");
        assert_eq!(hard.code(), "invalid_request", "{shown}");
        assert_eq!(
            hard.header("content-type"),
            Some("application/problem+json"),
            "{shown}"
        );
        assert!(
            hard.message().contains(named),
            "{shown}: {}",
            hard.message()
        );
        assert!(hard.message().len() < 400, "{shown}: {}", hard.message());
        assert_eq!(hard.json().get("config"), None, "{shown}");

        let soft = server
            .post(path, format!(r#"{{{fields},"softFail":true}}"#))
            .await;
        assert_eq!(soft.status, 200, "{shown}: {soft:?}");
        assert_eq!(
            soft.header("content-type"),
            Some("application/json"),
            "{shown}"
        );
        assert_eq!(soft.message(), hard.message(), "{shown}");
        assert_eq!(soft.json()["status"], 400, "{shown}");
        let early = server
            .post(path, format!(r#"{{"softFail":true,{fields}}}"#))
            .await;
        assert_eq!(early.status, 200, "{shown}: {early:?}");
    }
    untouched(&server.fake);
}

#[tokio::test]
async fn what_is_at_the_edge_of_the_allowed_is_allowed() {
    let server = Server::start(Answer::Grant).await;
    for body in [
        format!(r#"{{"key":"{}"}}"#, "k".repeat(512)),
        format!(r#"{{"key":"{}"}}"#, "🔒".repeat(128)),
        format!(r#"{{"key":"k","uuid":"{}"}}"#, "u".repeat(128)),
        r#"{"key":"a:b"}"#.to_owned(),
        r#"{"key":"\ud83d\udd12"}"#.to_owned(),
        r#"{"key":"k","lease":1}"#.to_owned(),
        r#"{"key":"k","lease":86400000}"#.to_owned(),
        r#"{"key":"k","retryAttempts":1000,"retryDelay":600}"#.to_owned(),
        r#"{"key":"k","retryAttempts":0,"retryDelay":60000,"retryJitter":60000}"#.to_owned(),
        r#" {"key" : "k"} "#.to_owned(),
        r#"{"key":"k","lease":null,"uuid":null,"fifo":null,"softFail":null,"retryAttempts":null}"#
            .to_owned(),
        format!(r#"{{"key":"k"{}}}"#, " ".repeat(64 * 1024 - 11)),
    ] {
        let reply = server.post(ACQUIRE, &body).await;
        assert_eq!(
            reply.status,
            200,
            "{}: {reply:?}",
            body.chars().take(80).collect::<String>()
        );
        assert_eq!(reply.json()["acquired"], true);
    }
}

#[tokio::test]
async fn over_64_kib_is_413_whatever_it_says() {
    let server = Server::start(Answer::Grant).await;
    for size in [64 * 1024 + 1, 3_000_000] {
        let body = format!(r#"{{"softFail":true,"key":"k"{}}}"#, " ".repeat(size - 27));
        assert_eq!(body.len(), size);
        let reply = server.post(ACQUIRE, &body).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (413, "body_too_large")
        );
        assert_eq!(reply.json()["acquired"], false);
    }
    untouched(&server.fake);
}

fn untouched(fake: &Fake) {
    assert!(fake.acquires().is_empty() && fake.extends().is_empty() && fake.releases().is_empty());
}
