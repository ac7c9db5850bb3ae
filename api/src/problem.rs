//! The one table of failures, and their one way to the caller: RFC 9457 bodies merged with the
//! operation's own fields.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use evermind_lock::outcome::Current;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use serde::Serialize;

use crate::rates::RateLimited;
use crate::replies::{Config, LOG_INDEX, json_bytes};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What went wrong, as a word that a program can act on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every one, for the document that lists them.
            #[cfg(test)]
            pub(crate) const ALL: &[Code] = &[$(Code::$name,)*];
        }
    };
}

codes! {
    LockHeld,
    NotOwner,
    LockNotFound,
    GrantEnded,
    InvalidRequest,
    IdempotencyMismatch,
    UnsupportedMediaType,
    BodyTooLarge,
    RequestTimeout,
    Unauthorized,
    /// No such licence key: 401.
    LicenceUnknown,
    /// Expired or revoked: 403.
    LicenceInactive,
    QuotaExceeded,
    LicenceNotFound,
    ApiKeyNotFound,
    RateLimited,
    LimitReached,
    NoLeader,
    OutcomeUnknown,
    NotFound,
    MethodNotAllowed,
}

/// Whether `softFail` turns a failure into a 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Soft {
    Yes,
    No,
}

/// One row of the table.
pub(crate) struct Row {
    pub(crate) code: &'static str,
    /// An identifier, not an address: nothing is served there.
    uri: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
    pub(crate) soft: Soft,
}

macro_rules! row {
    ($code:literal, $status:ident, $soft:ident, $title:literal) => {
        Row {
            code: $code,
            uri: concat!("urn:evermind:problem:", $code),
            status: StatusCode::$status,
            title: $title,
            soft: Soft::$soft,
        }
    };
}

impl Code {
    /// The table. Whatever fails before `softFail` can be read is not softened.
    #[rustfmt::skip]
    pub(crate) fn row(self) -> Row {
        match self {
            Code::LockHeld => row!("lock_held", LOCKED, Yes, "The lock is held by another"),
            Code::NotOwner => row!("not_owner", CONFLICT, Yes, "The uuid is not the holder's"),
            Code::LockNotFound => row!("lock_not_found", NOT_FOUND, Yes, "The lock is not held"),
            Code::GrantEnded => row!("grant_ended", CONFLICT, Yes, "The grant of the repeated operation has ended"),
            Code::InvalidRequest => row!("invalid_request", BAD_REQUEST, Yes, "The request is not valid"),
            Code::IdempotencyMismatch => row!("idempotency_mismatch", UNPROCESSABLE_ENTITY, Yes, "The Idempotency-Key stands for another request"),
            Code::UnsupportedMediaType => row!("unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, No, "The body is not plain JSON"),
            Code::BodyTooLarge => row!("body_too_large", PAYLOAD_TOO_LARGE, No, "The body is too large"),
            Code::RequestTimeout => row!("request_timeout", REQUEST_TIMEOUT, No, "The body did not arrive in time"),
            Code::Unauthorized => row!("unauthorized", UNAUTHORIZED, No, "No valid key or token"),
            Code::LicenceUnknown => row!("licence_inactive", UNAUTHORIZED, No, "No valid licence key"),
            Code::LicenceInactive => row!("licence_inactive", FORBIDDEN, Yes, "The licence is expired or revoked"),
            Code::QuotaExceeded => row!("quota_exceeded", PAYMENT_REQUIRED, Yes, "The licence's allowance is spent"),
            Code::LicenceNotFound => row!("licence_not_found", NOT_FOUND, Yes, "There is no such licence"),
            Code::ApiKeyNotFound => row!("api_key_not_found", NOT_FOUND, Yes, "The licence has no such API key"),
            Code::RateLimited => row!("rate_limited", TOO_MANY_REQUESTS, No, "Too many requests"),
            Code::LimitReached => row!("limit_reached", TOO_MANY_REQUESTS, No, "A limit is reached"),
            Code::NoLeader => row!("no_leader", SERVICE_UNAVAILABLE, Yes, "Nothing was done: the cluster cannot take requests here right now"),
            Code::OutcomeUnknown => row!("outcome_unknown", GATEWAY_TIMEOUT, No, "What came of the request is not known"),
            Code::NotFound => row!("not_found", NOT_FOUND, No, "There is nothing at this path"),
            Code::MethodNotAllowed => row!("method_not_allowed", METHOD_NOT_ALLOWED, No, "This path has other methods"),
        }
    }
}

/// A failure on its way to the caller.
#[derive(Debug)]
pub(crate) struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    /// Whole seconds.
    retry_after: Option<u64>,
    holder: Option<Current>,
    /// Boxed because it is rare, and every reader of a request hands a problem on.
    rate_limit: Option<Box<RateLimited>>,
    /// What the acquire cost.
    attempts: u32,
    log_index: Option<u64>,
    /// The rest of the request was not read: nothing more can be read from this connection.
    closes: bool,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let retry_after = matches!(
            code,
            Code::RateLimited | Code::LimitReached | Code::NoLeader
        )
        .then_some(1);
        Self {
            code,
            detail: detail.into(),
            retry_after,
            holder: None,
            rate_limit: None,
            attempts: 0,
            log_index: None,
            closes: false,
        }
    }

    pub(crate) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidRequest, detail)
    }

    /// Rounded up to whole seconds, at least one.
    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        self.retry_after = Some(u64::try_from(seconds).unwrap_or(u64::MAX));
        self
    }

    pub(crate) fn held(mut self, attempts: u32, holder: Option<Current>) -> Self {
        self.attempts = attempts;
        self.holder = holder;
        self
    }

    pub(crate) fn costing(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    pub(crate) fn rate_limit(
        mut self,
        policy: &'static str,
        per_second: u32,
        wait: Duration,
    ) -> Self {
        self.rate_limit = Some(Box::new(RateLimited::new(policy, per_second, wait)));
        self
    }

    pub(crate) fn decided_at(mut self, log_index: u64) -> Self {
        self.log_index = Some(log_index);
        self
    }

    /// Whether the caller cannot know what was done.
    pub(crate) fn is_unknown(&self) -> bool {
        self.code == Code::OutcomeUnknown
    }

    pub(crate) fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// The answer to a request.
    pub(crate) fn answer(self, asked: &Asked, request_id: &str) -> Response<Body> {
        let row = self.code.row();
        // In an unknown outcome nothing is claimed: neither the operation's boolean nor its cost.
        let unknown = self.is_unknown();
        let no = || {
            if unknown {
                Claim::Unknown
            } else {
                Claim::Known(false)
            }
        };
        let cost = || {
            if unknown {
                Claim::Unknown
            } else {
                Claim::Known(self.attempts)
            }
        };
        let operation = asked.operation;
        let shown = asked
            .config
            .as_ref()
            .filter(|_| self.code != Code::InvalidRequest);
        let body = json_bytes(&ProblemBody {
            acquired: (operation == Operation::Acquire).then(no),
            extended: (operation == Operation::Extend).then(no),
            released: (operation == Operation::Release).then(no),
            lock_acquisition_attempts: (operation == Operation::Acquire).then(cost),
            config: shown,
            message: &self.detail,
            uri: row.uri,
            title: row.title,
            status: row.status.as_u16(),
            detail: &self.detail,
            code: row.code,
            request_id,
            holder: self.holder.map(Holder::from),
        });
        let softened = asked.soft_fail && row.soft == Soft::Yes;
        let mut response = Response::new(Body::from(body));
        if !softened {
            *response.status_mut() = row.status;
        }
        let headers = response.headers_mut();
        let media = if softened {
            "application/json"
        } else {
            "application/problem+json"
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if row.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(rate) = self.rate_limit {
            for (name, text) in [
                (RATE_LIMIT_POLICY, rate.policy()),
                (RATE_LIMIT, rate.limit()),
            ] {
                // Digits and our own words.
                headers.extend(HeaderValue::from_str(&text).ok().map(|value| (name, value)));
            }
        }
        if let Some(index) = self.log_index {
            headers.insert(LOG_INDEX, HeaderValue::from(index));
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Which operation's own fields a failure carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Acquire,
    Extend,
    Release,
    /// No fields of its own.
    Other,
}

impl Operation {
    /// Which of them a request asks for.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        match request.uri().path() {
            _ if request.method() != Method::POST => Operation::Other,
            "/lock/acquire" => Operation::Acquire,
            "/lock/extend" => Operation::Extend,
            "/lock/release" => Operation::Release,
            _ => Operation::Other,
        }
    }
}

/// What is known so far of the request that failed.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) operation: Operation,
    pub(crate) soft_fail: bool,
    /// Of an acquire whose fields were all in order.
    pub(crate) config: Option<Config>,
}

impl Asked {
    pub(crate) fn new(operation: Operation) -> Self {
        Self {
            operation,
            soft_fail: false,
            config: None,
        }
    }
}

/// What the body says of the operation; null where nothing is known.
#[derive(Serialize)]
#[serde(untagged)]
enum Claim<T> {
    Known(T),
    Unknown,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProblemBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    acquired: Option<Claim<bool>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extended: Option<Claim<bool>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    released: Option<Claim<bool>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lock_acquisition_attempts: Option<Claim<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'a Config>,
    message: &'a str,
    #[serde(rename = "type")]
    uri: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<Holder>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Holder {
    expires_in: u64,
    fencing_token: u64,
    waiting: u64,
}

impl From<Current> for Holder {
    fn from(current: Current) -> Self {
        Self {
            expires_in: current.expires_in_ms,
            fencing_token: current.fencing_token,
            waiting: current.waiting,
        }
    }
}
