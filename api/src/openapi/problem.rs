//! How failures look.

use serde_json::Value;
use utoipa::openapi::schema::Schema;

use evermind_lock::limits::{FENCING_TOKEN_MAX, LEASE_MS_MAX, RETRY_ATTEMPTS_MAX};

use super::schema::{Named, Words, choice, count, flag, named, object, text, whole};
use crate::problem::{Code, Soft};

pub(super) fn schemas() -> Vec<Named> {
    vec![
        ("Problem", problem()),
        ("ProblemCode", codes()),
        ("LockHolder", holder()),
    ]
}

fn problem() -> Schema {
    let no = |about: &str| flag(about).one_of([Value::Bool(false)]).or_null();
    let attempts = "What the acquire cost; null where it is not known. Of acquires only.";
    object(
        "A failure (RFC 9457), merged with the operation's own fields. With `softFail: true` in the request \
        the status line says 200 and `status` says what it would have been.",
    )
    .may("acquired", no("False, or null where the outcome is unknown. Of acquires only."))
    .may("extended", no("False, or null where the outcome is unknown. Of extends only."))
    .may("released", no("False, or null where the outcome is unknown. Of releases only."))
    .may(
        "lockAcquisitionAttempts",
        whole(attempts, 0..=u64::from(RETRY_ATTEMPTS_MAX) + 1).or_null(),
    )
    .may("config", named("AcquireConfig"))
    .must("message", text("What went wrong, for people. The same as `detail`."))
    .must(
        "type",
        text("`urn:evermind:problem:` and the code: an identifier, nothing is served there."),
    )
    .must("title", text("What the code means, always in the same words."))
    .must("status", whole("The HTTP status, or what it would have been.", 400..=599))
    .must("detail", text("What went wrong, for people."))
    .must("code", named("ProblemCode"))
    .must("requestId", text("The same as the header `X-Request-Id`."))
    .may("holder", named("LockHolder"))
    .into()
}

/// The table of failures, as a list of words and as a table for people.
fn codes() -> Schema {
    let mut words: Vec<&str> = Vec::new();
    let mut about =
        "What went wrong, for programs. Those marked soft become 200 with `softFail: true`.\n\n\
        | code | status | | |\n| --- | --- | --- | --- |"
            .to_owned();
    for row in Code::ALL.iter().map(|code| code.row()) {
        if !words.contains(&row.code) {
            words.push(row.code);
        }
        let soft = if row.soft == Soft::Yes { "soft" } else { "" };
        let status = row.status.as_u16().to_string();
        about.extend([
            "\n| `", row.code, "` | ", &status, " | ", soft, " | ", row.title, " |",
        ]);
    }
    choice(&about, &words).into()
}

fn holder() -> Schema {
    object("Of `lock_held`: what is known of who holds the lock. Never its uuid, which is the right to release it.")
        .must("expiresIn", whole("What is left of its lease, in ms.", 0..=LEASE_MS_MAX))
        .must("fencingToken", whole("Its fencing token.", 1..=FENCING_TOKEN_MAX))
        .must("waiting", count("How many stand in line."))
        .into()
}
