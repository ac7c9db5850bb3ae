//! From what the node says to what the caller is told.

use std::time::{Duration, SystemTime};

use evermind_lock::limits;
#[cfg(evermind_mutants)]
use evermind_lock::mutant::{self, Mutant};
use evermind_lock::outcome::{CutOff, HeldReason, Limit, Refusal};
use evermind_raft::api::NodeError;

use crate::calendar;
use crate::problem::{Code, Problem};

/// A held lock may be released long before its lease ends, so the advice when to come back is
/// never longer than this.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);

impl From<NodeError> for Problem {
    fn from(error: NodeError) -> Self {
        let detail = error.to_string();
        match error {
            NodeError::NoLeader { retry_after } => {
                Problem::new(Code::NoLeader, detail).retry_after(retry_after)
            }
            NodeError::Unknown => Problem::new(Code::OutcomeUnknown, detail),
            NodeError::Busy | NodeError::Listings => Problem::new(Code::RateLimited, detail),
            // For the caller the same as no leader: nothing was done, and another node may do it.
            NodeError::Stopping => Problem::new(Code::NoLeader, detail),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::LockHeld {
                reason,
                attempts,
                current,
            } => {
                let left = Duration::from_millis(current.map_or(0, |c| c.expires_in_ms));
                Problem::new(Code::LockHeld, held(reason))
                    .retry_after(left.min(RETRY_AFTER_MAX))
                    .held(attempts, current)
            }
            #[cfg(evermind_mutants)]
            Refusal::NotOwner if mutant::is(Mutant::NotOwnerAsNotFound) => {
                Problem::new(Code::LockNotFound, "nobody holds the lock")
            }
            Refusal::NotOwner => {
                Problem::new(Code::NotOwner, "the lock is held under another uuid")
            }
            Refusal::LockNotFound => Problem::new(
                Code::LockNotFound,
                "nobody holds this lock: it was never taken, given back, or its lease ran out",
            ),
            Refusal::ExtendPastLimit { left_ms } => Problem::invalid(format!(
                "extendBy would leave the lease more than {} ms (24 h): {left_ms} ms are left now, so at most {} can be added",
                limits::LEASE_MS_MAX,
                limits::LEASE_MS_MAX.saturating_sub(left_ms),
            )),
            Refusal::Unauthorized => {
                Problem::new(Code::Unauthorized, "the API key is unknown or was deleted")
            }
            Refusal::LicenceInactive => Problem::new(
                Code::LicenceInactive,
                "the licence is expired or was revoked: ask the operator of the cluster for another",
            ),
            Refusal::LicenceUnknown => {
                Problem::new(Code::LicenceUnknown, "the licence key is unknown")
            }
            Refusal::LicenceNotFound => {
                Problem::new(Code::LicenceNotFound, "there is no licence of this id")
            }
            Refusal::ApiKeyNotFound => Problem::new(
                Code::ApiKeyNotFound,
                "the licence has no such API key: it was never made, was deleted, or is another's",
            ),
            Refusal::QuotaExceeded {
                limit,
                next_period_ms,
            } => quota(limit, next_period_ms),
            Refusal::CutOff { reason, attempts } => match reason {
                CutOff::KeyDeleted => Problem::new(
                    Code::Unauthorized,
                    "the API key was deleted while the request stood in line",
                ),
                CutOff::LicenceInactive => Problem::new(
                    Code::LicenceInactive,
                    "the licence ended while the request stood in line",
                ),
            }
            .costing(attempts),
            // The node's own bound, like `Busy`: the caller sends too much at once.
            Refusal::LimitReached(Limit::OpenOperations) => {
                Problem::new(Code::RateLimited, limit(Limit::OpenOperations))
            }
            Refusal::LimitReached(which) => Problem::new(Code::LimitReached, limit(which)),
            Refusal::IdempotencyMismatch => Problem::new(
                Code::IdempotencyMismatch,
                "this Idempotency-Key was used with another request less than a minute ago",
            ),
            Refusal::GrantEnded { attempts } => Problem::new(
                Code::GrantEnded,
                "this operation was carried out before, and the grant it made has ended since",
            )
            .costing(attempts),
        }
    }
}

fn quota(limit: u64, next_period_ms: Option<u64>) -> Problem {
    let next = next_period_ms.and_then(calendar::write);
    let next = next.map_or_else(
        || "it does not begin anew".to_owned(),
        |date| format!("it begins anew at {date}"),
    );
    let problem = Problem::new(
        Code::QuotaExceeded,
        format!("the licence's {limit} attempts are spent; {next}"),
    );
    let Some(next_ms) = next_period_ms else {
        return problem;
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let wait = now.map_or(Duration::ZERO, |now| {
        Duration::from_millis(next_ms).saturating_sub(now)
    });
    problem.retry_after(wait)
}

fn held(reason: HeldReason) -> &'static str {
    match reason {
        HeldReason::NoWait => "another holds the lock, and the request asked not to wait",
        HeldReason::WindowPassed => "another held the lock for the whole waiting window",
        HeldReason::ReleasedWhileWaiting => {
            "a release of this uuid ended the wait; the lock was not acquired"
        }
        HeldReason::Detached => "the wait had lost its caller for too long and was ended",
    }
}

fn limit(which: Limit) -> String {
    let (what, max) = match which {
        Limit::WaitersPerResource => (
            "waiters for one lock",
            limits::WAITERS_PER_RESOURCE_MAX as u64,
        ),
        Limit::WaitersPerIdentity => (
            "waiters of one identity",
            limits::WAITERS_PER_IDENTITY_MAX as u64,
        ),
        Limit::LocksPerIdentity => (
            "locks held by one identity",
            limits::LOCKS_PER_IDENTITY_MAX as u64,
        ),
        Limit::Locks => ("locks held in the cluster", limits::LOCKS_MAX as u64),
        Limit::AttachmentsPerWaiter => (
            "requests waiting under one uuid",
            limits::ATTACHMENTS_PER_WAITER_MAX as u64,
        ),
        Limit::IdempotencyKeys => (
            "Idempotency-Keys remembered in the cluster",
            limits::IDEMPOTENCY_KEYS_MAX as u64,
        ),
        Limit::OpenOperations => ("requests open on this node", limits::OPEN_OPERATIONS_MAX),
        Limit::ApiKeys => ("API keys in the cluster", limits::API_KEYS_MAX as u64),
        Limit::ApiKeysPerLicence => (
            "API keys of one licence",
            limits::API_KEYS_PER_LICENCE_MAX as u64,
        ),
        Limit::Licences => ("licences in the cluster", limits::LICENCES_MAX as u64),
        Limit::Members => ("members ever seen", limits::MEMBERS_MAX as u64),
    };
    format!("there may be at most {max} {what}, and there are")
}
