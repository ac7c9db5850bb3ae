//! Shows VERIFY.md 4, JSON and fields: each wrong body with the status that the contract gives it,
//! and a server that goes on answering.

use serde_json::json;

use crate::harness::TestCluster;
use crate::harness::client::Client;
use crate::harness::http::{Answer, Request};

/// What is wrong, the body, and the status.
type Row = (&'static str, Vec<u8>, u16);

fn row(what: &'static str, body: impl Into<Vec<u8>>, status: u16) -> Row {
    (what, body.into(), status)
}

/// An acquire with one field as given, in JSON.
fn with(field: &str, value: &str) -> String {
    match field {
        "key" => format!(r#"{{"key":{value},"retryAttempts":0}}"#),
        _ => format!(r#"{{"key":"k-{field}","{field}":{value},"retryAttempts":0}}"#),
    }
}

fn post(client: &Client, path: &str, body: &[u8]) -> Answer {
    let request = Request::post(path, body).with("Content-Type", "application/json");
    client.send(&request.bearer(&client.api_key))
}

#[track_caller]
fn check(client: &Client, path: &str, rows: &[Row]) {
    let mut wrong = Vec::new();
    for (what, body, status) in rows {
        let answer = post(client, path, body);
        if answer.status != *status {
            wrong.push(format!("{path}, {what}: {status} expected: {answer}"));
        } else if *status == 400 && answer.code() != "invalid_request" {
            wrong.push(format!(
                "{path}, {what}: invalid_request expected: {answer}"
            ));
        } else if *status != 200 && answer.json()["message"].as_str().is_none_or(str::is_empty) {
            wrong.push(format!("{path}, {what}: no message: {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(client.take("still-here", "u", 10_000).status, 200);
    assert_eq!(client.release("still-here", "u").status, 200);
}

#[test]
fn bodies_that_are_not_one_json_object() {
    let cluster = TestCluster::start();
    let nested = "[".repeat(30_000) + &"]".repeat(30_000);
    let rows = [
        row("an array", r#"["k"]"#, 400),
        row("a string", r#""k""#, 400),
        row("null", "null", 400),
        row("nothing", "", 400),
        row("white space", "  \n", 400),
        row("half an object", r#"{"key":"k""#, 400),
        row("trailing data", r#"{"key":"k"} {"key":"k"}"#, 400),
        row("a trailing comma", r#"{"key":"k",}"#, 400),
        row("a byte order mark", "\u{feff}{\"key\":\"k\"}", 400),
        row("a comment", "{\"key\":\"k\" /* mine */}", 400),
        row("single quotes", "{'key':'k'}", 400),
        row("invalid UTF-8", b"{\"key\":\"\xff\xfe\"}".to_vec(), 400),
        row("overlong UTF-8", b"{\"key\":\"\xc0\xaf\"}".to_vec(), 400),
        row("a lone surrogate", r#"{"key":"\ud800"}"#, 400),
        row("an unknown field", r#"{"key":"k","leese":1}"#, 400),
        row("a field of another case", r#"{"Key":"k"}"#, 400),
        row(
            "a field twice",
            r#"{"key":"k","lease":1000,"lease":1000}"#,
            400,
        ),
        row("nested 30,000 deep", nested.clone(), 400),
        row(
            "nested 30,000 deep in a field",
            format!(r#"{{"key":{nested}}}"#),
            400,
        ),
        row(
            "nested 100,000 deep: also too big",
            "[".repeat(100_000),
            413,
        ),
        row(
            "65,537 bytes",
            format!(r#"{{"key":"k"{}}}"#, " ".repeat(65_537 - 11)),
            413,
        ),
        row("3 MB", vec![b' '; 3_000_000], 413),
        row(
            "65,536 bytes",
            format!(r#"{{"key":"k"{}}}"#, " ".repeat(65_536 - 11)),
            200,
        ),
    ];
    check(&cluster.client(1), "/lock/acquire", &rows);
    // Whatever a stranger sends, the node that reads it lives.
    assert_eq!(cluster.running(), [1, 2, 3]);
}

#[test]
fn numbers_texts_and_flags_out_of_range_or_of_another_type() {
    let cluster = TestCluster::start();
    let mut rows = Vec::new();
    let wrong_numbers = [
        "NaN",
        "Infinity",
        "1e400",
        "1e3",
        "\"1000\"",
        "1.5",
        "1000.0",
        "-1",
        "-0",
        "01",
        "true",
        "[]",
        "{}",
        "9223372036854775808",
        "18446744073709551616",
        "86400001",
    ];
    for value in wrong_numbers {
        rows.push(row("a lease", with("lease", value), 400));
        rows.push(row("a retryDelay", with("retryDelay", value), 400));
        rows.push(row("a retryJitter", with("retryJitter", value), 400));
    }
    rows.push(row("lease 0", with("lease", "0"), 400));
    rows.push(row("lease 1", with("lease", "1"), 200));
    rows.push(row("the longest lease", with("lease", "86400000"), 200));
    rows.push(row("retryDelay 0", with("retryDelay", "0"), 200));
    rows.push(row(
        "retryDelay above 60000",
        with("retryDelay", "60001"),
        400,
    ));
    rows.push(row(
        "retryJitter above 60000",
        with("retryJitter", "60001"),
        400,
    ));
    rows.push(row(
        "retryAttempts above 1000",
        r#"{"key":"k","retryAttempts":1001}"#,
        400,
    ));
    let window = r#"{"key":"k","retryAttempts":1000,"retryDelay":601}"#;
    rows.push(row("a window above 10 min", window, 400));

    rows.push(row("no key", r#"{"lease":1000}"#, 400));
    rows.push(row("key null", with("key", "null"), 400));
    rows.push(row("key a number", with("key", "7"), 400));
    rows.push(row("key empty", with("key", "\"\""), 400));
    rows.push(row("key NUL", with("key", r#""a\u0000b""#), 400));
    rows.push(row(
        "key with a control character",
        with("key", r#""a\u001fb""#),
        400,
    ));
    rows.push(row("key with DEL", with("key", r#""a\u007fb""#), 400));
    rows.push(row(
        "key with a raw line feed",
        with("key", "\"a\nb\""),
        400,
    ));
    rows.push(row(
        "key of 513 bytes",
        with("key", &json!("x".repeat(513)).to_string()),
        400,
    ));
    rows.push(row(
        "key of 512 bytes",
        with("key", &json!("x".repeat(512)).to_string()),
        200,
    ));
    let wide = json!("\u{1F512}".repeat(128)).to_string();
    rows.push(row("key of 512 bytes in fours", with("key", &wide), 200));
    let wider = json!("\u{1F512}".repeat(129)).to_string();
    rows.push(row("key of 516 bytes in fours", with("key", &wider), 400));
    rows.push(row("key with the separator", with("key", "\"a:b\""), 200));

    rows.push(row("uuid empty", with("uuid", "\"\""), 400));
    rows.push(row("uuid a number", with("uuid", "7"), 400));
    rows.push(row("uuid with a space", with("uuid", "\"a b\""), 400));
    rows.push(row(
        "uuid with a control character",
        with("uuid", r#""a\tb""#),
        400,
    ));
    rows.push(row("uuid beyond ASCII", with("uuid", "\"é\""), 400));
    rows.push(row(
        "uuid of 129",
        with("uuid", &json!("u".repeat(129)).to_string()),
        400,
    ));
    rows.push(row(
        "uuid of 128",
        with("uuid", &json!("u".repeat(128)).to_string()),
        200,
    ));

    rows.push(row("fifo a number", with("fifo", "1"), 400));
    rows.push(row("fifo a string", with("fifo", "\"true\""), 400));
    rows.push(row("softFail a string", with("softFail", "\"true\""), 400));
    check(&cluster.client(2), "/lock/acquire", &rows);
}

#[test]
fn extend_and_release_read_their_fields_as_strictly() {
    let cluster = TestCluster::start();
    let client = cluster.client(3);
    client.take("k", "u", 60_000);
    let extend = |rest: &str| format!(r#"{{"key":"k","uuid":"u"{rest}}}"#);
    let rows = [
        row("no extendBy", extend(""), 400),
        row("extendBy null", extend(r#","extendBy":null"#), 400),
        row("extendBy 0", extend(r#","extendBy":0"#), 400),
        row(
            "extendBy above 24 h",
            extend(r#","extendBy":86400001"#),
            400,
        ),
        row(
            "more than 24 h left",
            extend(r#","extendBy":86400000"#),
            400,
        ),
        row(
            "a field of another operation",
            extend(r#","extendBy":1,"lease":1"#),
            400,
        ),
        row("no uuid", r#"{"key":"k","extendBy":1}"#, 400),
        row("uuid null", r#"{"key":"k","uuid":null,"extendBy":1}"#, 400),
        row("all well", extend(r#","extendBy":1"#), 200),
    ];
    check(&client, "/lock/extend", &rows);
    let rows = [
        row("no uuid", r#"{"key":"k"}"#, 400),
        row("no key", r#"{"uuid":"u"}"#, 400),
        row("an unknown field", extend(r#","force":true"#), 400),
        row("all well", extend(""), 200),
    ];
    check(&client, "/lock/release", &rows);
}

#[test]
fn bodies_under_another_media_type() {
    let cluster = TestCluster::start();
    let client = cluster.client(1);
    let body = r#"{"key":"k","retryAttempts":0,"uuid":"u"}"#;
    let plain = || Request::post("/lock/acquire", body).bearer(&client.api_key);
    let json = || plain().with("Content-Type", "application/json");
    let rows = [
        ("none", plain(), 415),
        ("text", plain().with("Content-Type", "text/plain"), 415),
        (
            "a form",
            plain().with("Content-Type", "application/x-www-form-urlencoded"),
            415,
        ),
        (
            "utf-16",
            plain().with("Content-Type", "application/json; charset=utf-16"),
            415,
        ),
        ("gzip", json().with("Content-Encoding", "gzip"), 415),
        (
            "utf-8",
            plain().with("Content-Type", "application/json; charset=utf-8"),
            200,
        ),
        (
            "upper case",
            plain().with("Content-Type", "Application/JSON"),
            200,
        ),
    ];
    for (what, request, status) in rows {
        let answer = client.send(&request);
        assert_eq!(answer.status, status, "{what}: {answer}");
    }
}
