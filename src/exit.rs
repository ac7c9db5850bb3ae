//! Exit codes, and how a command says that it failed.

use std::process::ExitCode;

use evermind_client::{Code, Error};

use crate::stderr::say;

/// Anything without a code of its own.
pub(crate) const OTHER: u8 = 1;
/// Wrong usage; also clap's own.
pub(crate) const USAGE: u8 = 2;
/// The lock is not held, not any more, or not by this uuid.
pub(crate) const NOT_HELD: u8 = 3;
/// There is no such licence, or no such API key.
pub(crate) const NO_SUCH: u8 = 3;
/// `EX_UNAVAILABLE`: no node, no leader, or the outcome is not known.
pub(crate) const UNAVAILABLE: u8 = 69;
/// `EX_TEMPFAIL`: held by another until the end of the wait, or a limit is reached.
pub(crate) const NOT_ACQUIRED: u8 = 75;
/// The lock was lost while the command ran.
pub(crate) const LOST: u8 = 76;
/// `EX_NOPERM`: the API key, its licence, a licence key or the admin token was refused.
pub(crate) const REFUSED: u8 = 77;
/// As a shell: found, but cannot be started.
pub(crate) const NOT_STARTED: u8 = 126;
/// As a shell: no such command.
pub(crate) const NOT_FOUND: u8 = 127;

/// The table of `evermind lock --help`.
pub(crate) const LOCK_TABLE: &str = "\
Exit codes:
  0    done
  1    any other failure
  2    wrong usage
  3    not held, not any more, or not by this uuid
  69   no node could be reached, there is no leader, or the outcome is not known
  75   not acquired: held by another until the end of the wait, or a limit is reached
  76   run: the lock was lost while the command ran; if it still ran, it was ended
  77   the API key or its licence was refused, or the licence's allowance is spent
  126  run: the command cannot be started
  127  run: there is no such command
  and  run: the command's own code, or 128 + the signal that ended it";

/// The table of `evermind keys --help` and `evermind licences --help`.
pub(crate) const KEYS_TABLE: &str = "\
Exit codes:
  0    done
  1    any other failure
  2    wrong usage, a mistyped key among it
  3    there is no such licence or API key
  69   no node could be reached, there is no leader, or the outcome is not known
  75   too many requests, or a limit is reached
  77   the licence key or the admin token was refused";

/// Why a command failed, what to do next, and the code to exit with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) code: u8,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            code: OTHER,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(message).code(USAGE)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Says so on stderr.
    pub(crate) fn report(&self) -> ExitCode {
        say!("error: {}", self.message);
        if let Some(hint) = &self.hint {
            say!("hint: {hint}");
        }
        ExitCode::from(self.code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (code, hint) = match &error {
            Error::Endpoint { .. } => (USAGE, "for example --url http://127.0.0.1:7601"),
            Error::NoEndpoint => (USAGE, "give one with --url or EVERMIND_BASE_URL"),
            Error::ApiKey => (USAGE, "give it with --api-key or EVERMIND_API_KEY"),
            Error::AdminToken => (
                USAGE,
                "give it with --admin-token-file or EVERMIND_ADMIN_TOKEN",
            ),
            Error::MayBeMade { .. } => (UNAVAILABLE, MAY_BE_MADE),
            Error::Unreachable { .. } => (
                UNAVAILABLE,
                "is the cluster running? --url or EVERMIND_BASE_URL says where; `evermind dev` starts one here",
            ),
            Error::Unavailable { .. } => (
                UNAVAILABLE,
                "is the node behind that proxy up? give the addresses of all nodes with --url or EVERMIND_BASE_URL",
            ),
            Error::Redirected { location, .. } => (OTHER, redirected(location)),
            Error::NotUnderstood { .. } => (OTHER, "is --url the address of an Evermind node?"),
            Error::Request(_) => (OTHER, "see --help for what is allowed"),
            Error::Refused(problem) => of_code(&problem.code),
        };
        let id = match &error {
            Error::Refused(problem) => problem.request_id.as_ref(),
            _ => None,
        };
        let message = match id {
            Some(id) => format!("{error} (request {id})"),
            None => error.to_string(),
        };
        Self::new(message).hint(hint).code(code)
    }
}

fn redirected(location: &str) -> &'static str {
    if location.starts_with("https://") {
        "TLS is not spoken here yet: give a plain http:// address with --url or EVERMIND_BASE_URL, of the node itself or of a local proxy that adds TLS"
    } else {
        "give the address that it redirects to, or the node's own, with --url or EVERMIND_BASE_URL"
    }
}

/// Whoever sees no key cannot use it, but it counts against the bounds.
const MAY_BE_MADE: &str = "if it was, nobody has its secret: look with `evermind licences list` and `show`, and make another";

fn of_code(code: &Code) -> (u8, &'static str) {
    match code {
        Code::LockHeld => (
            NOT_ACQUIRED,
            "wait longer with --wait, for example --wait 30s",
        ),
        Code::NotOwner => (NOT_HELD, "use the uuid that acquire printed"),
        Code::LockNotFound => (
            NOT_HELD,
            "it is free: never taken, released, or its lease ran out",
        ),
        Code::GrantEnded => (
            NOT_HELD,
            "the lock was had and has ended meanwhile: acquire it again",
        ),
        Code::InvalidRequest | Code::BodyTooLarge => (USAGE, "see --help for what is allowed"),
        Code::Unauthorized => (
            REFUSED,
            "give a valid key with --api-key or EVERMIND_API_KEY; `evermind keys create` makes one",
        ),
        Code::LicenceNotFound => (
            NO_SUCH,
            "`evermind licences list` shows the ids that there are",
        ),
        Code::ApiKeyNotFound => (
            NO_SUCH,
            "give the licence key that it was made with: a licence deletes only its own keys",
        ),
        Code::LicenceInactive => (
            REFUSED,
            "ask the operator of the cluster for an active licence",
        ),
        Code::QuotaExceeded => (
            REFUSED,
            "the licence's allowance is spent: ask the operator for more",
        ),
        Code::RateLimited | Code::LimitReached => (NOT_ACQUIRED, "try again later"),
        Code::NoLeader => (
            UNAVAILABLE,
            "a majority of the nodes is not reachable: `evermind cluster` shows which are up",
        ),
        Code::OutcomeUnknown => (
            UNAVAILABLE,
            "look with `evermind lock show`, or acquire again with the same --uuid",
        ),
        Code::IdempotencyMismatch | Code::Other(_) => (OTHER, "the nodes' logs may say more"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_api_has_an_exit_code() {
        for (code, expected) in [
            ("lock_held", 75),
            ("not_owner", 3),
            ("lock_not_found", 3),
            ("grant_ended", 3),
            ("invalid_request", 2),
            ("body_too_large", 2),
            ("unauthorized", 77),
            ("licence_inactive", 77),
            ("quota_exceeded", 77),
            ("licence_not_found", 3),
            ("api_key_not_found", 3),
            ("rate_limited", 75),
            ("limit_reached", 75),
            ("no_leader", 69),
            ("outcome_unknown", 69),
            ("idempotency_mismatch", 1),
            ("something_new", 1),
        ] {
            let (exit, hint) = of_code(&Code::from(code));
            assert_eq!(exit, expected, "{code}");
            assert!(!hint.is_empty());
        }
    }

    #[test]
    fn every_client_error_has_a_hint() {
        let endpoint = "http://a:1".to_owned();
        let why = String::new();
        let may_be_made = Error::MayBeMade {
            what: "an API key",
            endpoint: endpoint.clone(),
            why: why.clone(),
        };
        for (error, code) in [
            (Error::NoEndpoint, USAGE),
            (Error::ApiKey, USAGE),
            (Error::AdminToken, USAGE),
            (
                Error::Unavailable {
                    endpoint: endpoint.clone(),
                    status: 502,
                },
                UNAVAILABLE,
            ),
            (
                Error::Redirected {
                    endpoint: endpoint.clone(),
                    status: 301,
                    location: "https://a".to_owned(),
                },
                OTHER,
            ),
            (Error::Unreachable { endpoint, why }, UNAVAILABLE),
            (may_be_made, UNAVAILABLE),
        ] {
            let failure = Failure::from(error);
            assert_eq!(failure.code, code);
            assert!(failure.hint.is_some());
        }
    }
}
