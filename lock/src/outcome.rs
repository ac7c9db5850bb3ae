//! What came of a command.

use serde::{Deserialize, Serialize};

use crate::command::{KeyId, LicenceId, OpId};
use crate::names::{Holder, Resource};

/// What came of a command, and of which entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The log index of the entry that decided. For a repeated operation: of its first entry.
    pub log_index: u64,
    /// What was decided.
    pub outcome: Outcome,
}

/// What was decided. A refusal is an outcome, not an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The caller holds the lock.
    Granted(Granted),
    /// The caller stands in line; a [`Event::WaitEnded`] will follow.
    Queued,
    /// The lease ends later now.
    Extended {
        /// The grant's.
        fencing_token: u64,
        /// Until the lease ends, in cluster ms from this entry.
        expires_in_ms: u64,
    },
    /// The lock, or the place in line, is given back.
    Released,
    /// No.
    Refused(Refusal),
    /// A command of the cluster's own was carried out.
    Done,
    /// A late duplicate of an operation that was answered long ago, or of an older boot. Nothing
    /// changed and nobody waits for this.
    Stale,
    /// The licence is there.
    LicenceCreated(LicenceId),
    /// The API key can be used.
    ApiKeyCreated(KeyId),
}

/// See [`Outcome::Granted`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Who holds the lock. Differs from what was asked for only where an idempotency key stood
    /// for an earlier request whose uuid the server had chosen.
    pub holder: Holder,
    /// Higher than every earlier grant's.
    pub fencing_token: u64,
    /// Until the lease ends, in cluster ms from this entry.
    pub expires_in_ms: u64,
    /// Cluster ms from this request's own first entry to the grant; 0 where it already held.
    pub waited_ms: u64,
    /// What polling would have cost.
    pub attempts: u32,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// Another holds the lock.
    LockHeld {
        /// Why the caller is not waiting (any longer).
        reason: HeldReason,
        /// What polling would have cost.
        attempts: u32,
        /// The current grant, if there is one.
        current: Option<Current>,
    },
    /// The uuid is not the holder's.
    NotOwner,
    /// Nobody holds it.
    LockNotFound,
    /// The extension would leave more than 24 h; `left_ms` are left now.
    ExtendPastLimit {
        /// What is left, in ms.
        left_ms: u64,
    },
    /// The API key is unknown or deleted.
    Unauthorized,
    /// A bound of [`crate::limits`] is reached.
    LimitReached(Limit),
    /// The idempotency key was used with another request.
    IdempotencyMismatch,
    /// The grant that the repeated operation made has ended.
    GrantEnded {
        /// What the operation cost when it was carried out; 0 of an extend.
        attempts: u32,
    },
    /// The API key's licence, or the licence itself, is expired or revoked.
    LicenceInactive,
    /// No licence has this licence key.
    LicenceUnknown,
    /// No licence has this number.
    LicenceNotFound,
    /// The licence has no such API key.
    ApiKeyNotFound,
    /// The licence's allowance is spent.
    QuotaExceeded {
        /// Attempts in one period.
        limit: u64,
        /// When the next period begins, in wall-clock ms since 1970.
        next_period_ms: Option<u64>,
    },
    /// The wait was cut off: its caller's key is taken no longer.
    CutOff {
        /// Why.
        reason: CutOff,
        /// What polling would have cost until then.
        attempts: u32,
    },
}

/// Why a wait was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CutOff {
    /// The API key was deleted.
    KeyDeleted,
    /// The licence expired or was revoked.
    LicenceInactive,
}

/// Why an acquire ended without the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeldReason {
    /// It asked not to wait.
    NoWait,
    /// Its waiting window passed.
    WindowPassed,
    /// A release of its uuid ended the wait.
    ReleasedWhileWaiting,
    /// All its callers were gone for longer than [`crate::limits::DETACHED_MS`].
    Detached,
}

/// A lock's grant as others may see it: never the holder's uuid, which is the right to release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// The grant's.
    pub fencing_token: u64,
    /// Until its lease ends, in cluster ms.
    pub expires_in_ms: u64,
    /// How many stand in line.
    pub waiting: u64,
}

/// Which bound was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// [`crate::limits::WAITERS_PER_RESOURCE_MAX`]
    WaitersPerResource,
    /// [`crate::limits::WAITERS_PER_IDENTITY_MAX`]
    WaitersPerIdentity,
    /// [`crate::limits::LOCKS_PER_IDENTITY_MAX`]
    LocksPerIdentity,
    /// [`crate::limits::LOCKS_MAX`]
    Locks,
    /// [`crate::limits::ATTACHMENTS_PER_WAITER_MAX`]
    AttachmentsPerWaiter,
    /// [`crate::limits::IDEMPOTENCY_KEYS_MAX`]
    IdempotencyKeys,
    /// [`crate::limits::OPEN_OPERATIONS_MAX`]
    OpenOperations,
    /// [`crate::limits::API_KEYS_MAX`]
    ApiKeys,
    /// [`crate::limits::MEMBERS_MAX`]
    Members,
    /// [`crate::limits::LICENCES_MAX`]
    Licences,
    /// [`crate::limits::API_KEYS_PER_LICENCE_MAX`]
    ApiKeysPerLicence,
}

/// What else an entry did, for those who wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The wait that `operation` is attached to ended in this entry.
    WaitEnded {
        /// The acquire.
        operation: OpId,
        /// What it waited for.
        resource: Resource,
        /// Granted or refused.
        outcome: Outcome,
    },
    /// The attachment was dropped although its wait goes on: its node was taken for dead.
    Detached {
        /// The acquire.
        operation: OpId,
    },
}
