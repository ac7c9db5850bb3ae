//! `GET /v1/locks`, `/v1/locks/{key}`, `/v1/cluster`, `/livez`, `/readyz`.

use utoipa::openapi::RefOr;
use utoipa::openapi::path::{HttpMethod, Parameter};
use utoipa::openapi::schema::{Object, OneOfBuilder, Schema};

use super::locks::{expires_in, fencing_token, key};
use super::operation::{Access, Endpoint, KEY, query, segment};
use super::schema::{Named, Words, choice, count, flag, list, named, object, text, whole};
use crate::problem::Code;
use crate::query::{PAGE_DEFAULT, PAGE_MAX};

pub(super) fn endpoints() -> Vec<Endpoint> {
    let looking = |path, id, summary, about, parameters, success, failures| Endpoint {
        path,
        method: HttpMethod::Get,
        id,
        tag: "looking",
        summary,
        about,
        access: Access::ApiKey,
        parameters,
        body: None,
        success,
        logged: false,
        failures,
    };
    let health = |path, id, summary, about, success, failures| Endpoint {
        tag: "health",
        access: Access::Anyone,
        ..looking(path, id, summary, about, vec![], success, failures)
    };
    vec![
        looking(
            "/v1/locks",
            "listLocks",
            "List the locks that are held, or look at one",
            "Without `key`: a page of the locks, in the order of their keys. With `key`: that lock alone, \
             answered as by `/v1/locks/{key}`; this form works for every key (`.`, `..`, and slashes \
             behind a proxy that decodes `%2F`), and `prefix`, `cursor` and `limit` are refused beside it. \
             Never shows the holder's uuid, which is the right to release.",
            vec![
                query("key", key()),
                query("prefix", text("Only keys that start so.")),
                query(
                    "cursor",
                    text("The `cursor` of the page before, as it was."),
                ),
                limit(),
                consistency(),
            ],
            (
                200,
                "A page of locks; with `key`: the lock is held",
                Some("LocksPageOrLock"),
            ),
            vec![KEY, &[Code::InvalidRequest, Code::LockNotFound]],
        ),
        looking(
            "/v1/locks/{key}",
            "getLock",
            "Look at one lock",
            "Never shows the holder's uuid, which is the right to release.",
            vec![segment("key", key()), consistency()],
            (200, "The lock is held", Some("LockView")),
            vec![KEY, &[Code::InvalidRequest, Code::LockNotFound]],
        ),
        looking(
            "/v1/cluster",
            "getCluster",
            "See the cluster as this node does",
            "From local state.",
            vec![],
            (200, "What this node knows", Some("ClusterStatus")),
            vec![KEY],
        ),
        health(
            "/livez",
            "livez",
            "Whether the process serves",
            "Says nothing of the cluster: restarting a node does not bring back a majority.",
            (200, "It does", Some("Liveness")),
            vec![],
        ),
        health(
            "/readyz",
            "readyz",
            "Whether this node can serve",
            "It knows a leader, and has applied what was committed when it started.",
            (200, "It can", Some("Readiness")),
            vec![&[Code::NoLeader]],
        ),
    ]
}

/// How many entries a page has.
pub(super) fn limit() -> RefOr<Parameter> {
    let about = "How many at most.";
    let schema = whole(about, 1..=PAGE_MAX as u64).default_to(PAGE_DEFAULT);
    query("limit", schema)
}

fn consistency() -> RefOr<Parameter> {
    let about = "`linearizable`: as after everything answered before. `stale`: this node's state, which may lag.";
    query(
        "consistency",
        choice(about, &["linearizable", "stale"]).default_to("linearizable"),
    )
}

/// Where a listing goes on.
pub(super) fn cursor() -> Object {
    text("What the next page is asked for with; null on the last.").or_null()
}

pub(super) fn schemas() -> Vec<Named> {
    vec![
        ("LockView", lock_view()),
        ("LocksPage", locks_page()),
        ("LocksPageOrLock", locks_page_or_lock()),
        ("ClusterStatus", cluster_status()),
        ("Member", member()),
        (
            "Liveness",
            object("It lives.").must("alive", flag("True.")).into(),
        ),
        (
            "Readiness",
            object("It is ready.").must("ready", flag("True.")).into(),
        ),
    ]
}

fn lock_view() -> Schema {
    object("A lock that is held.")
        .must("key", key())
        .must("fencingToken", fencing_token())
        .must("expiresIn", expires_in())
        .must("waiting", count("How many stand in line."))
        .must(
            "fifo",
            flag("Whether its holder asked for the order of the line."),
        )
        .into()
}

fn locks_page() -> Schema {
    object("Some of the locks that are held.")
        .must(
            "locks",
            list("In the order of their keys.", named("LockView")),
        )
        .must("cursor", cursor())
        .into()
}

fn locks_page_or_lock() -> Schema {
    OneOfBuilder::new()
        .item(named("LocksPage"))
        .item(named("LockView"))
        .description(Some(
            "A page of locks; one lock where the query has a `key`.",
        ))
        .into()
}

fn cluster_status() -> Schema {
    object("What a node knows of its cluster.")
        .must("id", count("This node's number."))
        .must(
            "role",
            choice(
                "This node's role.",
                &["leader", "follower", "learner", "candidate"],
            ),
        )
        .must(
            "leader",
            count("The leader's number; null where none is known.").or_null(),
        )
        .must("term", count("The term of Raft."))
        .must(
            "members",
            list("Every node of the cluster.", named("Member")),
        )
        .must(
            "appliedIndex",
            count("The last log entry that this node has applied."),
        )
        .must(
            "globalPrefix",
            text("Stands before each lock's name where people see it."),
        )
        .into()
}

fn member() -> Schema {
    object("A node of the cluster.")
        .must("id", count("Its number."))
        .must(
            "http",
            text("Where clients reach it, as in http://host:port."),
        )
        .must("peer", text("Where other nodes reach it, as in host:port."))
        .must("voter", flag("Whether it counts towards a majority."))
        .into()
}
