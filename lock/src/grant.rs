//! Who holds a resource.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::command::{NodeId, OpId};
use crate::names::{Holder, IdempotencyKey};

/// The acquire that was last told of a grant: its hang-up gives the lock back.
///
/// Kept small, as there is one for each lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Newest {
    node: NodeId,
    boot: u64,
    /// Operations count from 1.
    sequence: NonZeroU64,
    /// Under which idempotency key that acquire came.
    pub(crate) idempotency: Option<Box<IdempotencyKey>>,
}

impl Newest {
    pub(crate) fn new(operation: OpId, idempotency: Option<IdempotencyKey>) -> Option<Self> {
        Some(Self {
            node: operation.node,
            boot: operation.boot,
            sequence: NonZeroU64::new(operation.sequence)?,
            idempotency: idempotency.map(Box::new),
        })
    }

    pub(crate) fn operation(&self) -> OpId {
        OpId {
            node: self.node,
            boot: self.boot,
            sequence: self.sequence.get(),
        }
    }
}

/// One lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(crate) holder: Holder,
    /// Unique, and higher than every earlier grant's.
    pub(crate) fencing_token: u64,
    /// The lease is over once cluster time is past this.
    pub(crate) expires_at_ms: u64,
    /// `None` once an extend has shown that the holder goes on with it.
    pub(crate) newest: Option<Newest>,
    /// As its acquire asked.
    pub(crate) fifo: bool,
    /// What its acquire cost.
    pub(crate) attempts: u32,
}

impl Grant {
    /// Past its end, whether or not an entry has removed it.
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        self.expires_at_ms < now_ms
    }
}

/// Every lease on one resource. At most one: shared locks and semaphores would have more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grants(Option<Grant>);

impl Grants {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The grant that stands in everybody's way.
    pub(crate) fn current(&self) -> Option<&Grant> {
        self.0.as_ref()
    }

    pub(crate) fn of(&self, holder: &Holder) -> Option<&Grant> {
        self.0.as_ref().filter(|grant| grant.holder == *holder)
    }

    pub(crate) fn of_mut(&mut self, holder: &Holder) -> Option<&mut Grant> {
        self.0.as_mut().filter(|grant| grant.holder == *holder)
    }

    pub(crate) fn with_token(&self, fencing_token: u64) -> Option<&Grant> {
        let grant = self.0.as_ref();
        grant.filter(|grant| grant.fencing_token == fencing_token)
    }

    /// # Panics
    /// If the resource is held: two holders are the one thing that may never be.
    pub(crate) fn add(&mut self, grant: Grant) {
        assert!(self.0.is_none(), "a second grant on a held resource");
        self.0 = Some(grant);
    }

    pub(crate) fn remove(&mut self, fencing_token: u64) -> Option<Grant> {
        self.0.take_if(|grant| grant.fencing_token == fencing_token)
    }
}
