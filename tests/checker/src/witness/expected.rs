//! What the HTTP edge makes of an outcome: SPEC.md section 3's table.

use evermind_lock::outcome::{CutOff, Limit, Outcome, Refusal};

use crate::history::{Ask, Told};

/// What a caller is told of an outcome; `None` if it is no answer.
pub(super) fn told(outcome: &Outcome) -> Option<Told> {
    Some(match outcome {
        Outcome::Granted(granted) => Told::Granted {
            token: granted.fencing_token,
            expires_in_ms: granted.expires_in_ms,
            waited_ms: granted.waited_ms,
            attempts: granted.attempts,
        },
        Outcome::Extended {
            fencing_token,
            expires_in_ms,
        } => Told::Extended {
            token: *fencing_token,
            expires_in_ms: *expires_in_ms,
        },
        Outcome::Released => Told::Released,
        Outcome::Refused(refusal) => refused(refusal),
        _ => return None,
    })
}

fn refused(refusal: &Refusal) -> Told {
    let (status, code, attempts) = match refusal {
        Refusal::LockHeld { attempts, .. } => (423, "lock_held", *attempts),
        Refusal::NotOwner => (409, "not_owner", 0),
        Refusal::LockNotFound => (404, "lock_not_found", 0),
        Refusal::ExtendPastLimit { .. } => (400, "invalid_request", 0),
        Refusal::Unauthorized => (401, "unauthorized", 0),
        Refusal::LimitReached(Limit::OpenOperations) => (429, "rate_limited", 0),
        Refusal::LimitReached(_) => (429, "limit_reached", 0),
        Refusal::IdempotencyMismatch => (422, "idempotency_mismatch", 0),
        Refusal::GrantEnded { attempts } => (409, "grant_ended", *attempts),
        Refusal::LicenceInactive => (403, "licence_inactive", 0),
        Refusal::LicenceUnknown => (401, "licence_inactive", 0),
        Refusal::LicenceNotFound => (404, "licence_not_found", 0),
        Refusal::ApiKeyNotFound => (404, "api_key_not_found", 0),
        Refusal::QuotaExceeded { .. } => (402, "quota_exceeded", 0),
        Refusal::CutOff {
            reason: CutOff::KeyDeleted,
            attempts,
        } => (401, "unauthorized", *attempts),
        Refusal::CutOff {
            reason: CutOff::LicenceInactive,
            attempts,
        } => (403, "licence_inactive", *attempts),
    };
    Told::Refused {
        status,
        code: code.into(),
        attempts,
    }
}

/// Whether an answer is the expected one. Only an acquire is told what it cost.
pub(super) fn is_same(ask: &Ask, told: &Told, expected: &Told) -> bool {
    match (told, expected) {
        (
            Told::Refused { status, code, .. },
            Told::Refused {
                status: expected_status,
                code: expected_code,
                ..
            },
        ) if !matches!(ask, Ask::Acquire { .. }) => {
            (status, code) == (expected_status, expected_code)
        }
        _ => told == expected,
    }
}

/// Whether an answer can only come of an entry, and so must say of which.
pub(super) fn needs_entry(told: &Told) -> bool {
    match told {
        Told::Granted { .. } | Told::Extended { .. } | Told::Released => true,
        Told::Refused { code, .. } => matches!(
            code.as_str(),
            "lock_held"
                | "not_owner"
                | "lock_not_found"
                | "grant_ended"
                | "idempotency_mismatch"
                | "quota_exceeded"
        ),
        Told::Held { .. } | Told::Free | Told::Unknown => false,
    }
}
