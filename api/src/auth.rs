//! Who asks.

use std::time::Duration;

use evermind_lock::command::KeyHash;
use evermind_raft::api::{Caller, NodeError};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::app::Edge;
use crate::limits::API_KEY_BYTES_MAX;
use crate::locks::Locks;
use crate::problem::{Code, Problem};

/// The caller whose API key the request carries. The outer error is 401; the inner one means that
/// nobody could say yet, and is for after the body was read, because it can be softened.
pub(crate) async fn caller<L: Locks>(
    edge: &Edge<L>,
    headers: &HeaderMap,
) -> Result<Result<Caller, NodeError>, Problem> {
    let looking = edge.locks.authenticate(key_hash(headers)?);
    // Nothing is proposed by looking a key up, so nothing is unknown when it takes too long.
    let in_vain = NodeError::NoLeader {
        retry_after: Duration::from_secs(1),
    };
    match timeout(edge.limits.answer_margin, looking).await {
        Ok(Ok(Some(caller))) => Ok(Ok(caller)),
        Ok(Ok(None)) => Err(unauthorized("the API key is unknown or was deleted")),
        Ok(Err(NodeError::Unknown)) | Err(_) => Ok(Err(in_vain)),
        Ok(Err(error)) => Ok(Err(error)),
    }
}

/// The key itself goes no further than this function.
fn key_hash(headers: &HeaderMap) -> Result<KeyHash, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, more) = (values.next(), values.next());
    let value = value.ok_or_else(|| {
        unauthorized("the header Authorization is missing; send Authorization: Bearer <api key>")
    })?;
    if more.is_some() {
        return Err(unauthorized("the header Authorization is allowed once"));
    }
    let (scheme, key) = value.as_bytes().split_at(value.len().min("Bearer ".len()));
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return Err(unauthorized(
            "the scheme must be Bearer: Authorization: Bearer <api key>",
        ));
    }
    if key.is_empty() || key.len() > API_KEY_BYTES_MAX || !key.iter().all(u8::is_ascii_graphic) {
        return Err(unauthorized(
            "an API key is 1 to 256 visible ASCII characters",
        ));
    }
    Ok(KeyHash(Sha256::digest(key).into()))
}

fn unauthorized(detail: &'static str) -> Problem {
    Problem::new(Code::Unauthorized, detail)
}
