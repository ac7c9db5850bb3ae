//! What can go wrong, in terms a caller can act on.

use std::time::Duration;

use serde::Deserialize;

/// Why a call did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An endpoint that cannot be used.
    #[error("{text:?} is not an endpoint: {why}")]
    Endpoint {
        /// As it was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// No endpoint was given.
    #[error("no endpoint was given")]
    NoEndpoint,
    /// An API key that no header can carry.
    #[error("the API key is empty or has characters that a header cannot carry")]
    ApiKey,
    /// An admin token that no header can carry.
    #[error("the admin token is empty or has characters that a header cannot carry")]
    AdminToken,
    /// The call cannot be written as an HTTP request.
    #[error("the request cannot be sent: {0}")]
    Request(String),
    /// No node answered for as long as the client tries.
    #[error("no node answered: {endpoint}: {why}")]
    Unreachable {
        /// The one tried last.
        endpoint: String,
        /// What happened there.
        why: String,
    },
    /// For as long as the client tries, an endpoint answered with a failure that is not Evermind's:
    /// of a proxy that does not reach its node.
    #[error(
        "no node answered: {endpoint} answered HTTP {status} without a word of Evermind's, as a proxy does that cannot reach its node"
    )]
    Unavailable {
        /// The one tried last.
        endpoint: String,
        /// The HTTP status.
        status: u16,
    },
    /// An endpoint sends its callers elsewhere. That is not followed: on the way a POST may become a
    /// GET, and the API key may go to a stranger.
    #[error("{endpoint} redirects (HTTP {status}) to {location:?}, and redirects are not followed")]
    Redirected {
        /// Who answered.
        endpoint: String,
        /// The HTTP status.
        status: u16,
        /// Where it leads; empty if it did not say.
        location: String,
    },
    /// Whether a key or a licence was made is not known, and repeating the call could make another.
    #[error("{what} may have been made, and may not: {endpoint}: {why}")]
    MayBeMade {
        /// `an API key` or `a licence`.
        what: &'static str,
        /// Who was asked.
        endpoint: String,
        /// What happened there.
        why: String,
    },
    /// A node answered with a failure.
    #[error("{}", .0.message)]
    Refused(Box<Problem>),
    /// An answer that is not of this API.
    #[error("{endpoint} answered {status} with something that is not of this API: {why}")]
    NotUnderstood {
        /// Who answered.
        endpoint: String,
        /// The HTTP status.
        status: u16,
        /// What was wrong with it.
        why: String,
    },
}

impl Error {
    /// The failure's code, if a node answered with one.
    pub fn code(&self) -> Option<&Code> {
        match self {
            Error::Refused(problem) => Some(&problem.code),
            _ => None,
        }
    }

    /// What happened, without where.
    pub(crate) fn why(&self) -> String {
        match self {
            Error::Unreachable { why, .. } => why.clone(),
            other => other.to_string(),
        }
    }
}

/// A failure as a node answered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// Which failure.
    pub code: Code,
    /// For people.
    pub message: String,
    /// The node's name for the request, to find it in its logs.
    pub request_id: Option<String>,
    /// When to come again, if the node said so.
    pub retry_after: Option<Duration>,
    /// The answer as it came.
    pub body: String,
}

/// Which failure. New ones may come: they are [`Code::Other`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// Still held by another after every retry.
    LockHeld,
    /// Another uuid holds it.
    NotOwner,
    /// Nobody holds it.
    LockNotFound,
    /// A field is wrong; the message says which.
    InvalidRequest,
    /// Over 64 KiB.
    BodyTooLarge,
    /// The API key is missing, unknown or deleted; or this is not the admin token.
    Unauthorized,
    /// The licence is unknown, expired or revoked.
    LicenceInactive,
    /// The licence's allowance is spent.
    QuotaExceeded,
    /// There is no such licence.
    LicenceNotFound,
    /// The licence has no such API key.
    ApiKeyNotFound,
    /// Too many requests.
    RateLimited,
    /// A bound of the cluster is reached.
    LimitReached,
    /// No leader; nothing was done.
    NoLeader,
    /// What came of it is not known.
    OutcomeUnknown,
    /// The `Idempotency-Key` belongs to another request.
    IdempotencyMismatch,
    /// The grant that the repeated request made has ended.
    GrantEnded,
    /// Any other.
    Other(String),
}

impl From<&str> for Code {
    fn from(code: &str) -> Self {
        match code {
            "lock_held" => Code::LockHeld,
            "not_owner" => Code::NotOwner,
            "lock_not_found" => Code::LockNotFound,
            "invalid_request" => Code::InvalidRequest,
            "body_too_large" => Code::BodyTooLarge,
            "unauthorized" => Code::Unauthorized,
            "licence_inactive" => Code::LicenceInactive,
            "quota_exceeded" => Code::QuotaExceeded,
            "licence_not_found" => Code::LicenceNotFound,
            "api_key_not_found" => Code::ApiKeyNotFound,
            "rate_limited" => Code::RateLimited,
            "limit_reached" => Code::LimitReached,
            "no_leader" => Code::NoLeader,
            "outcome_unknown" => Code::OutcomeUnknown,
            "idempotency_mismatch" => Code::IdempotencyMismatch,
            "grant_ended" => Code::GrantEnded,
            other => Code::Other(other.to_owned()),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProblemBody {
    code: Option<String>,
    message: Option<String>,
    detail: Option<String>,
    title: Option<String>,
    request_id: Option<String>,
}

impl Problem {
    /// Whether it has a code: then a node said it, and not a proxy before it.
    pub(crate) fn is_ours(&self) -> bool {
        !matches!(&self.code, Code::Other(code) if code.is_empty() || code.starts_with("http_"))
    }

    /// Reads a failure. A body that is not ours (a proxy's, say) becomes its message.
    pub(crate) fn read(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body).into_owned();
        let Ok(read) = serde_json::from_slice::<ProblemBody>(body) else {
            let message = format!("HTTP status {status}");
            let code = Code::Other(format!("http_{status}"));
            return Self {
                status,
                code,
                message,
                request_id: None,
                retry_after,
                body: text,
            };
        };
        Self {
            status,
            code: Code::from(read.code.as_deref().unwrap_or_default()),
            message: (read.message.or(read.detail).or(read.title))
                .unwrap_or_else(|| format!("HTTP status {status}")),
            request_id: read.request_id,
            retry_after,
            body: text,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn reads_a_problem() {
        let body = br#"{"acquired":false,"message":"held","code":"lock_held","status":423,"requestId":"r1"}"#;
        let problem = Problem::read(423, None, body);
        assert_eq!(
            (problem.code, problem.message.as_str()),
            (Code::LockHeld, "held")
        );
        assert_eq!(problem.request_id.as_deref(), Some("r1"));
    }

    #[test]
    fn a_proxys_answer_is_still_an_answer() {
        let problem = Problem::read(502, None, b"<html>Bad gateway</html>");
        assert_eq!(problem.code, Code::Other("http_502".into()));
        assert_eq!(problem.message, "HTTP status 502");
    }
}
