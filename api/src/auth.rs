//! Who asks.

use std::borrow::Cow;
use std::time::Duration;

use evermind_lock::outcome::Refusal;
use evermind_raft::api::{Caller, NodeError};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

use crate::app::Edge;
use crate::key_routes::PeerAddress;
use crate::limits::API_KEY_BYTES_MAX;
use crate::locks::Locks;
use crate::places::Keyless;
use crate::problem::{Code, Problem};
use crate::secrets::{SecretKind, hash};
use crate::soon::soon;

/// What a request draws on where requests are limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowance {
    /// For what keeps or ends a lock that is held: extend and release.
    Holding,
    /// For everything else.
    Asking,
}

/// The caller whose API key the request carries. The outer error is 401 or 429; the inner one can be
/// softened, and is for after the body was read: nobody could say yet, or the licence is inactive.
pub(crate) async fn caller<L: Locks>(
    edge: &Edge<L>,
    head: &Parts,
    allowance: Allowance,
) -> Result<Result<Caller, Problem>, Problem> {
    let key = bearer(&head.headers, "API key")?;
    if let Some(fault) = std::str::from_utf8(key)
        .ok()
        .and_then(|text| SecretKind::ApiKey.fault(text))
    {
        return Err(Problem::new(Code::Unauthorized, fault));
    }
    let looking = edge.backend.authenticate(hash(key));
    // Nothing is proposed by looking a key up, so nothing is unknown when it takes too long.
    let in_vain = NodeError::NoLeader {
        retry_after: Duration::from_secs(1),
    };
    let caller = match soon(edge.limits.answer_margin, looking).await {
        Some(Ok(Some(caller))) => caller,
        Some(Ok(None)) => return Err(unknown(key)),
        Some(Err(NodeError::Unknown)) | None => return Ok(Err(in_vain.into())),
        Some(Err(error)) => return Ok(Err(error.into())),
    };
    if let Some(rate) = &edge.licence_rate {
        rate.ask(caller.licence, allowance)?;
    }
    if !caller.standing.is_active() {
        return Ok(Err(Refusal::LicenceInactive.into()));
    }
    shows_key(head);
    Ok(Ok(caller))
}

/// Whether the request carries the admin token.
pub(crate) fn admin<B>(edge: &Edge<B>, head: &Parts) -> Result<(), Problem> {
    let Some(admin) = &edge.admin else {
        return Err(Problem::new(
            Code::NotFound,
            "the admin routes are off; start this node with --admin-token-file to have them",
        ));
    };
    let token = bearer(&head.headers, "admin token")?;
    // First, so that no stranger's requests keep the operator out. 128 bits are not guessed, however
    // fast: the limit below is for the load.
    if admin.is(token) {
        shows_key(head);
        return Ok(());
    }
    if let Some(PeerAddress(address)) = head.extensions.get() {
        edge.address_rate.ask(*address)?;
    }
    Err(unauthorized("this is not the admin token"))
}

/// From now on the connection keeps its place while it has work.
fn shows_key(head: &Parts) {
    if let Some(keyless) = head.extensions.get::<Keyless>() {
        keyless.shows_key();
    }
}

/// The secret itself goes no further than the two functions above.
fn bearer<'a>(headers: &'a HeaderMap, what: &str) -> Result<&'a [u8], Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, more) = (values.next(), values.next());
    let value = value.ok_or_else(|| {
        let scheme = what.to_lowercase();
        unauthorized(format!(
            "the header Authorization is missing; send Authorization: Bearer <{scheme}>"
        ))
    })?;
    if more.is_some() {
        return Err(unauthorized("the header Authorization is allowed once"));
    }
    let (scheme, secret) = value.as_bytes().split_at(value.len().min("Bearer ".len()));
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        let wanted = what.to_lowercase();
        return Err(unauthorized(format!(
            "the scheme must be Bearer: Authorization: Bearer <{wanted}>"
        )));
    }
    if secret.is_empty()
        || secret.len() > API_KEY_BYTES_MAX
        || !secret.iter().all(u8::is_ascii_graphic)
    {
        return Err(unauthorized(format!(
            "the {what} is 1 to {API_KEY_BYTES_MAX} visible ASCII characters"
        )));
    }
    Ok(secret)
}

fn unknown(key: &[u8]) -> Problem {
    let text = std::str::from_utf8(key).unwrap_or_default();
    unauthorized(format!(
        "the API key is unknown or was deleted{}",
        SecretKind::ApiKey.advice(text)
    ))
}

fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::new(Code::Unauthorized, detail)
}
