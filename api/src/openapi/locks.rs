//! `POST /lock/acquire`, `/lock/extend`, `/lock/release`.

use evermind_lock::limits::{
    FENCING_TOKEN_MAX, HOLDER_BYTES_MAX, KEY_BYTES_MAX, LEASE_MS_MAX, RETRY_ATTEMPTS_MAX,
};
use serde_json::{Value, json};
use utoipa::openapi::path::HttpMethod;
use utoipa::openapi::schema::{Object, Schema};

use super::operation::{Access, BODY, Endpoint, IDEMPOTENCY_KEY, KEY, parameter};
use super::schema::{
    Named, PRINTABLE, VISIBLE, Words, count, flag, name, named, nothing, object, whole,
};
use crate::problem::Code;
use crate::requests::{
    LEASE_MS_DEFAULT, RETRY_ATTEMPTS_DEFAULT, RETRY_DELAY_MS_DEFAULT, RETRY_JITTER_MS_DEFAULT,
    RETRY_STEP_MS_MAX,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    let endpoint = |path, id, summary, about, body, success, failures: &'static [Code]| Endpoint {
        path,
        method: HttpMethod::Post,
        id,
        tag: "locks",
        summary,
        about,
        access: Access::ApiKey,
        parameters: vec![parameter(IDEMPOTENCY_KEY)],
        body: Some(body),
        success,
        logged: true,
        failures: vec![
            failures,
            KEY,
            BODY,
            &[
                Code::IdempotencyMismatch,
                Code::LimitReached,
                Code::OutcomeUnknown,
            ],
        ],
    };
    vec![
        endpoint(
            "/lock/acquire",
            "acquireLock",
            "Take a lock, or stand in line for it",
            "Who cannot have the lock at once stands in line for the waiting window: the sum over \
            `retryAttempts` of `retryDelay` and a random 0 to `retryJitter`, at most 10 minutes. Nothing is \
            polled; a release and the grant to the next in line are one step. Asked again under the uuid that \
            holds the lock, the answer is the same grant. A client whose connection was cut comes back under \
            the same uuid within 3 s and has its old place.\n\nThe one deadline to rely on: the moment before \
            this request was sent + `waited` + `expiresIn`, less 1% for the drift of clocks.",
            "AcquireRequest",
            (200, "The lock is held", Some("AcquireResponse")),
            &[Code::LockHeld, Code::GrantEnded, Code::QuotaExceeded],
        ),
        endpoint(
            "/lock/extend",
            "extendLock",
            "Move a lease's end",
            "Adds to the current expiry, not to the time of the request. What is left may not pass 24 h.",
            "ExtendRequest",
            (200, "The lease is longer", Some("ExtendResponse")),
            &[Code::NotOwner, Code::LockNotFound, Code::GrantEnded],
        ),
        endpoint(
            "/lock/release",
            "releaseLock",
            "Give a lock back",
            "Of a uuid that still stands in line it ends the wait: that acquire is answered 423.",
            "ReleaseRequest",
            (200, "The lock is given back", Some("ReleaseResponse")),
            &[Code::NotOwner, Code::LockNotFound],
        ),
    ]
}

pub(super) fn schemas() -> Vec<Named> {
    vec![
        ("AcquireRequest", acquire_request()),
        ("AcquireConfig", acquire_config()),
        ("AcquireResponse", acquire_response()),
        ("ExtendRequest", extend_request()),
        ("ExtendResponse", extend_response()),
        ("ReleaseRequest", release_request()),
        ("ReleaseResponse", release_response()),
    ]
}

/// A lock's name.
pub(super) fn key() -> Object {
    name(
        "What is locked: 1 to 512 bytes of UTF-8 without control characters, within the API key's identity.",
        KEY_BYTES_MAX,
        PRINTABLE,
    )
}

fn uuid(about: &str) -> Object {
    name(about, HOLDER_BYTES_MAX, VISIBLE)
}

fn lease() -> Object {
    whole(
        "How long the grant lasts, in ms, counted from the grant.",
        1..=LEASE_MS_MAX,
    )
}

fn attempts() -> Object {
    let about = "How often polling would have tried again; 0 does not wait.";
    whole(about, 0..=u64::from(RETRY_ATTEMPTS_MAX))
}

fn delay() -> Object {
    whole(
        "How long polling would have slept between two tries, in ms.",
        0..=RETRY_STEP_MS_MAX,
    )
}

fn jitter() -> Object {
    whole(
        "How much may be added to each `retryDelay` at random, in ms.",
        0..=RETRY_STEP_MS_MAX,
    )
}

fn fifo() -> Object {
    flag(
        "Whether the order of the line is relied on: first come, first served, failovers included.",
    )
}

pub(super) fn soft_fail() -> Object {
    flag(
        "Whether failures are answered with HTTP 200 and the same body. Not so for unparsable bodies, 401, 413, \
        415, 429 and 504.",
    )
    .or_null()
    .default_to(false)
}

pub(super) fn fencing_token() -> Object {
    let about = "The grant's number: it only goes up, over the whole cluster, for ever. Pass it on, and have \
        the resource refuse a lower one than the highest it has seen.";
    whole(about, 1..=FENCING_TOKEN_MAX)
}

pub(super) fn expires_in() -> Object {
    let about = "What was left of the lease, in ms, at the log entry that this answer came of.";
    whole(about, 0..=LEASE_MS_MAX)
}

fn yes(about: &str) -> Object {
    flag(about).one_of([Value::Bool(true)])
}

fn message() -> Object {
    nothing("Null: there is nothing to say.")
}

fn acquire_request() -> Schema {
    object("Null is as good as left out, but for `key`. `retryAttempts` x (`retryDelay` + `retryJitter`) is at most 600000 ms.")
        .must("key", key())
        .may("lease", lease().or_null().default_to(LEASE_MS_DEFAULT))
        .may("retryAttempts", attempts().or_null().default_to(RETRY_ATTEMPTS_DEFAULT))
        .may("retryDelay", delay().or_null().default_to(RETRY_DELAY_MS_DEFAULT))
        .may("retryJitter", jitter().or_null().default_to(RETRY_JITTER_MS_DEFAULT))
        .may(
            "uuid",
            uuid("The caller's name for this acquisition, and the right to extend and release it: 1 to 128 \
                visible ASCII characters. Left out, a UUIDv7 is made.")
                .or_null(),
        )
        .may("softFail", soft_fail())
        .may("fifo", fifo().or_null().default_to(false))
        .closed()
        .example(json!({ "key": "nightly-report", "lease": 30_000 }))
        .into()
}

fn acquire_config() -> Schema {
    object("The acquire as it was understood, defaults filled in. Absent from `invalid_request`.")
        .must("key", key())
        .must("lease", lease())
        .must("retryAttempts", attempts())
        .must("retryDelay", delay())
        .must("retryJitter", jitter())
        .must(
            "uuid",
            uuid("The name of this acquisition: what extend and release want."),
        )
        .must("fifo", fifo())
        .into()
}

fn acquire_response() -> Schema {
    let attempts =
        "What the licence is charged: what polling would have made, 1 for an answer at once.";
    object("A grant.")
        .must("acquired", yes("The lock is held."))
        .must(
            "lockAcquisitionAttempts",
            whole(attempts, 0..=u64::from(RETRY_ATTEMPTS_MAX) + 1),
        )
        .must("config", named("AcquireConfig"))
        .must("message", message())
        .must("fencingToken", fencing_token())
        .must("expiresIn", expires_in())
        .must(
            "waited",
            count("From this request's own first log entry to the grant, in ms of cluster time; 0 where the \
                uuid already held the lock."),
        )
        .into()
}

fn extend_request() -> Schema {
    object("All but `softFail` is required.")
        .must("key", key())
        .must("uuid", uuid("The uuid that holds the lock."))
        .must(
            "extendBy",
            whole(
                "What is added to the current expiry, in ms.",
                1..=LEASE_MS_MAX,
            ),
        )
        .may("softFail", soft_fail())
        .closed()
        .example(json!({ "key": "nightly-report", "uuid": "01920000-0000-7000-8000-000000000000", "extendBy": 30_000 }))
        .into()
}

fn extend_response() -> Schema {
    object("A longer lease.")
        .must("extended", yes("The lease is longer."))
        .must("message", message())
        .must("expiresIn", expires_in())
        .must("fencingToken", fencing_token())
        .into()
}

fn release_request() -> Schema {
    object("All but `softFail` is required.")
        .must("key", key())
        .must(
            "uuid",
            uuid("The uuid that holds the lock, or stands in line for it."),
        )
        .may("softFail", soft_fail())
        .closed()
        .example(json!({ "key": "nightly-report", "uuid": "01920000-0000-7000-8000-000000000000" }))
        .into()
}

fn release_response() -> Schema {
    object("A lock given back, or a wait ended.")
        .must(
            "released",
            yes("The uuid neither holds the lock nor waits for it any more."),
        )
        .must("message", message())
        .into()
}
