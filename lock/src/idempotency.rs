//! Operations that their callers gave a name.

use serde::{Deserialize, Serialize};

use crate::names::{Holder, IdempotencyKey, IdentityId, Resource};
use crate::outcome::Refusal;

/// Which HTTP operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Endpoint {
    /// `POST /lock/acquire`
    Acquire,
    /// `POST /lock/extend`
    Extend,
    /// `POST /lock/release`
    Release,
}

/// The scope of a caller's `Idempotency-Key`: the same text means another thing for another
/// identity or another operation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdempotencyId {
    /// Whose.
    pub identity: IdentityId,
    /// For which operation.
    pub endpoint: Endpoint,
    /// The caller's text.
    pub key: IdempotencyKey,
}

/// One named operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyRecord {
    /// A digest of the request.
    pub(crate) fingerprint: [u8; 16],
    /// Unique and rising: the order of what is due at the same time.
    pub(crate) sequence: u64,
    pub(crate) state: IdempotencyState,
}

/// How a named operation stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum IdempotencyState {
    /// An acquire whose wait goes on. The waiter lists the record.
    Open { resource: Resource, holder: Holder },
    /// Decided. Kept until cluster time is at `until_ms`.
    Done { answer: Answer, until_ms: u64 },
    /// An acquire that was granted, and given back by its caller's hang-up: nobody was told. It
    /// starts anew when it comes again, and does not pay twice.
    Paid { attempts: u32, until_ms: u64 },
}

impl IdempotencyState {
    /// When the record goes; `None` while its wait goes on.
    pub(crate) fn until_ms(&self) -> Option<u64> {
        match self {
            IdempotencyState::Open { .. } => None,
            IdempotencyState::Done { until_ms, .. } | IdempotencyState::Paid { until_ms, .. } => {
                Some(*until_ms)
            }
        }
    }
}

/// What a named operation was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Granted {
        resource: Resource,
        /// The one first asked with: a repetition may come with another that its server made.
        holder: Holder,
        fencing_token: u64,
        attempts: u32,
    },
    Extended {
        resource: Resource,
        fencing_token: u64,
    },
    Released,
    Refused(Refusal),
}

impl IdempotencyRecord {
    /// Points to the identity's text instead of a copy of it.
    pub(crate) fn share_identity(&mut self, identity: &IdentityId) {
        let (IdempotencyState::Open { resource, .. }
        | IdempotencyState::Done {
            answer: Answer::Granted { resource, .. } | Answer::Extended { resource, .. },
            ..
        }) = &mut self.state
        else {
            return;
        };
        if resource.identity == *identity {
            resource.identity = identity.clone();
        }
    }
}
