//! Reading a request's body: plain JSON, bounded in size and time.

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT};
use http_body_util::BodyExt;
use std::time::Duration;

use crate::limits::{BODY_BYTES_MAX, DISCARD_BYTES_MAX};
use crate::problem::{Code, Problem};
use crate::soon::soon;

/// The whole body, or why not: 415, 413, 408.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    timeout: Duration,
) -> Result<Bytes, Problem> {
    plain_json(headers)?;
    // Whoever asked first may be told before sending anything.
    let asked_first = headers.contains_key(EXPECT);
    match soon(timeout, collect(body, asked_first)).await {
        Some(read) => read,
        None => Err(Problem::new(
            Code::RequestTimeout,
            format!("the body must arrive within {} s", timeout.as_secs_f64()),
        )
        .closing()),
    }
}

async fn collect(mut body: Body, asked_first: bool) -> Result<Bytes, Problem> {
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large(body, 0, asked_first).await);
    }
    // Most bodies are one frame, which is then not copied.
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        // The caller hung up within its body, or its chunks are malformed.
        let frame = frame.map_err(|error| {
            Problem::invalid(format!("the body could not be read: {error}")).closing()
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length += data.len();
        if length > BODY_BYTES_MAX {
            return Err(too_large(body, length, asked_first).await);
        }
        if length == data.len() {
            first = data;
            continue;
        }
        if joined.is_empty() {
            joined.extend_from_slice(&first);
        }
        joined.extend_from_slice(&data);
    }
    Ok(if joined.is_empty() {
        first
    } else {
        joined.freeze()
    })
}

/// Reads what still comes, within bounds, so that the caller is not cut off before the answer.
async fn too_large(mut body: Body, read: usize, asked_first: bool) -> Problem {
    let problem = Problem::new(
        Code::BodyTooLarge,
        format!("the body must be at most {BODY_BYTES_MAX} bytes"),
    )
    .closing();
    let mut left = DISCARD_BYTES_MAX.saturating_sub(read);
    if asked_first || body.size_hint().lower() > left as u64 {
        return problem;
    }
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        if length > left {
            break;
        }
        left -= length;
    }
    problem
}

/// `application/json`, in UTF-8 if it says so, not compressed.
fn plain_json(headers: &HeaderMap) -> Result<(), Problem> {
    let unsupported = |detail| Err(Problem::new(Code::UnsupportedMediaType, detail));
    if headers.contains_key(CONTENT_ENCODING) {
        return unsupported("the header Content-Encoding is not allowed: send the body as it is");
    }
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return unsupported("the header Content-Type must be there once, as application/json");
    };
    if value == "application/json" {
        return Ok(());
    }
    let mut parts = value.to_str().unwrap_or_default().split(';').map(str::trim);
    if !parts
        .next()
        .unwrap_or_default()
        .eq_ignore_ascii_case("application/json")
    {
        return unsupported("the header Content-Type must be application/json");
    }
    // Parameters other than the charset mean nothing to JSON (RFC 8259, section 11).
    for parameter in parts {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let utf8 = value.trim_matches('"').eq_ignore_ascii_case("utf-8");
        if name.eq_ignore_ascii_case("charset") && !utf8 {
            return unsupported("the charset of the body must be utf-8");
        }
    }
    Ok(())
}
