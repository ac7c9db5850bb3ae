//! The bodies of answers that say yes.

use axum::body::Body;
use bytes::Bytes;
use evermind_lock::names::{Holder, Key};
use evermind_lock::view::{LockView, LocksPage};
use evermind_raft::api::{ClusterStatus, Role};
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response};
use serde::Serialize;

/// The log entry an answer came of.
pub(crate) const LOG_INDEX: HeaderName = HeaderName::from_static("evermind-log-index");

/// An acquire as it was understood, defaults filled in.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Config {
    pub(crate) key: Key,
    pub(crate) lease: u64,
    pub(crate) retry_attempts: u32,
    pub(crate) retry_delay: u64,
    pub(crate) retry_jitter: u64,
    pub(crate) uuid: Holder,
    pub(crate) fifo: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AcquiredReply<'a> {
    pub(crate) acquired: bool,
    pub(crate) lock_acquisition_attempts: u32,
    pub(crate) config: Config,
    pub(crate) message: Option<&'a str>,
    pub(crate) fencing_token: u64,
    pub(crate) expires_in: u64,
    pub(crate) waited: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExtendedReply<'a> {
    pub(crate) extended: bool,
    pub(crate) message: Option<&'a str>,
    pub(crate) expires_in: u64,
    pub(crate) fencing_token: u64,
}

/// A key just made: the only answer that has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ApiKeyReply<'a> {
    pub(crate) api_key: &'a str,
    pub(crate) id: String,
}

#[derive(Serialize)]
pub(crate) struct ReleasedReply<'a> {
    pub(crate) released: bool,
    pub(crate) message: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LockReply<'a> {
    key: &'a str,
    fencing_token: u64,
    expires_in: u64,
    waiting: u64,
    fifo: bool,
}

impl<'a> From<&'a LockView> for LockReply<'a> {
    fn from(view: &'a LockView) -> Self {
        Self {
            key: view.key.as_str(),
            fencing_token: view.fencing_token,
            expires_in: view.expires_in_ms,
            waiting: view.waiting,
            fifo: view.fifo,
        }
    }
}

#[derive(Serialize)]
pub(crate) struct LocksReply<'a> {
    locks: Vec<LockReply<'a>>,
    cursor: Option<String>,
}

impl<'a> LocksReply<'a> {
    pub(crate) fn new(page: &'a LocksPage, cursor: Option<String>) -> Self {
        Self {
            locks: page.locks.iter().map(LockReply::from).collect(),
            cursor,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClusterReply<'a> {
    id: u64,
    role: &'static str,
    leader: Option<u64>,
    term: u64,
    members: Vec<MemberReply<'a>>,
    applied_index: u64,
    global_prefix: &'a str,
}

#[derive(Serialize)]
struct MemberReply<'a> {
    id: u64,
    http: &'a str,
    peer: &'a str,
    voter: bool,
}

impl<'a> From<&'a ClusterStatus> for ClusterReply<'a> {
    fn from(status: &'a ClusterStatus) -> Self {
        let members = status.members.iter().map(|member| MemberReply {
            id: member.id,
            http: &member.http,
            peer: &member.peer,
            voter: member.voter,
        });
        Self {
            id: status.id,
            role: match status.role {
                Role::Leader => "leader",
                Role::Follower => "follower",
                Role::Learner => "learner",
                Role::Candidate => "candidate",
            },
            leader: status.leader,
            term: status.term,
            members: members.collect(),
            applied_index: status.applied_index,
            global_prefix: &status.global_prefix,
        }
    }
}

/// A body as JSON text.
pub(crate) fn json_bytes(body: &impl Serialize) -> Bytes {
    // Room for every answer to a lock request: growing to it byte by byte costs several copies.
    let mut text = Vec::with_capacity(512);
    // Only a map with keys that are not strings, or a failing `Serialize`, can err here.
    serde_json::to_writer(&mut text, body).expect("plain structs serialize");
    Bytes::from(text)
}

/// 200 with a JSON body.
pub(crate) fn ok(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
