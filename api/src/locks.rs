//! What the edge needs of a node.

use std::future::Future;

use evermind_lock::command::KeyHash;
use evermind_lock::names::Key;
use evermind_lock::outcome::{Decision, Refusal};
use evermind_lock::view::{LockView, LocksPage};
use evermind_raft::api::{
    AcquireRequest, Caller, ClusterStatus, Consistency, ExtendRequest, NodeError, ReleaseRequest,
};
use evermind_raft::node::{Acquisition, Node};

use crate::accounts::Accounts;

/// The operations of a node that requests come down to. [`Node`] is the one that counts; tests
/// bring their own.
pub trait Locks: Clone + Send + Sync + 'static {
    /// See [`PendingAcquire`].
    type Pending: PendingAcquire;

    /// Whose key this is; `None` if nobody's.
    fn authenticate(
        &self,
        hash: KeyHash,
    ) -> impl Future<Output = Result<Option<Caller>, NodeError>> + Send;

    /// Begins an acquire.
    fn acquire(&self, caller: &Caller, request: AcquireRequest) -> Self::Pending;

    /// Moves a lease's end.
    fn extend(
        &self,
        caller: &Caller,
        request: ExtendRequest,
    ) -> impl Future<Output = Result<Decision, NodeError>> + Send;

    /// Gives a lock back, or ends a wait.
    fn release(
        &self,
        caller: &Caller,
        request: ReleaseRequest,
    ) -> impl Future<Output = Result<Decision, NodeError>> + Send;

    /// One lock; `None` if it is free. Refused if the caller's key is taken no longer.
    fn lock(
        &self,
        caller: &Caller,
        key: &Key,
        consistency: Consistency,
    ) -> impl Future<Output = Result<Result<Option<LockView>, Refusal>, NodeError>> + Send;

    /// Locks whose key starts with `prefix`, after `after`, at most `limit`. Refused if the caller's
    /// key is taken no longer.
    fn locks(
        &self,
        caller: &Caller,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
        consistency: Consistency,
    ) -> impl Future<Output = Result<Result<LocksPage, Refusal>, NodeError>> + Send;

    /// What this node knows of its cluster.
    fn status(&self) -> ClusterStatus;

    /// Whether this node can serve.
    fn is_ready(&self) -> bool;
}

/// All that the edge needs of a node.
pub trait Backend: Locks + Accounts {}

impl<T: Locks + Accounts> Backend for T {}

/// An acquire under way. Dropped before [`PendingAcquire::handed_over`], it is given up.
pub trait PendingAcquire: Send + 'static {
    /// Resolves once, when granted or refused.
    fn decision(&mut self) -> impl Future<Output = Result<Decision, NodeError>> + Send;

    /// The answer is on its way to the caller's socket.
    fn handed_over(self);
}

impl Locks for Node {
    type Pending = Acquisition;

    async fn authenticate(&self, hash: KeyHash) -> Result<Option<Caller>, NodeError> {
        Node::authenticate(self, hash).await
    }

    fn acquire(&self, caller: &Caller, request: AcquireRequest) -> Acquisition {
        Node::acquire(self, caller, request)
    }

    async fn extend(&self, caller: &Caller, request: ExtendRequest) -> Result<Decision, NodeError> {
        Node::extend(self, caller, request).await
    }

    async fn release(
        &self,
        caller: &Caller,
        request: ReleaseRequest,
    ) -> Result<Decision, NodeError> {
        Node::release(self, caller, request).await
    }

    async fn lock(
        &self,
        caller: &Caller,
        key: &Key,
        consistency: Consistency,
    ) -> Result<Result<Option<LockView>, Refusal>, NodeError> {
        Node::lock(self, caller, key, consistency).await
    }

    async fn locks(
        &self,
        caller: &Caller,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Result<LocksPage, Refusal>, NodeError> {
        Node::locks(self, caller, prefix, after, limit, consistency).await
    }

    fn status(&self) -> ClusterStatus {
        Node::status(self)
    }

    fn is_ready(&self) -> bool {
        Node::is_ready(self)
    }
}

impl PendingAcquire for Acquisition {
    async fn decision(&mut self) -> Result<Decision, NodeError> {
        Acquisition::decision(self).await
    }

    fn handed_over(self) {
        Acquisition::handed_over(self);
    }
}
