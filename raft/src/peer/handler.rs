//! The node as its peers see it.

use std::io;

use bytes::Bytes;
use evermind_lock::command::{Command, NodeId};
use evermind_storage::types::{LogId, SnapshotMeta, TypeConfig, Vote};
use openraft::base::{BoxFuture, BoxStream};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

/// Append requests of one stream, in order.
pub type AppendRequests = BoxStream<'static, AppendEntriesRequest<TypeConfig>>;
/// One reply for each request, in order, until the first that is not `Ok(Ok(_))`.
pub type AppendReplies = BoxStream<'static, Result<StreamAppendResult<TypeConfig>, HandlerError>>;

/// This node cannot do it: it is stopping, or its disk failed. The peer takes it for unreachable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HandlerError(pub String);

/// Another node leads, or none is known to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node does not lead")]
pub struct NotLeader {
    /// Who does, if that is known.
    pub leader: Option<NodeId>,
}

/// What became of a forwarded command. Its outcome is learned by the origin's own apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardReply {
    /// It is in the leader's queue, in the order in which it was sent.
    Accepted,
    /// It was not taken.
    NotLeader {
        /// Who leads, if that is known.
        leader: Option<NodeId>,
    },
}

/// What a node does for its peers. Dropping a returned future or stream gives the request up.
pub trait PeerHandler: Send + Sync + 'static {
    /// Appends, pipelined: openraft's `stream_append`. One stream of a peer at a time.
    fn append(&self, from: NodeId, requests: AppendRequests) -> AppendReplies;

    /// One append, out of any stream: a heartbeat.
    fn append_one(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<AppendEntriesResponse<TypeConfig>, HandlerError>>;

    /// A vote.
    fn vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<VoteResponse<TypeConfig>, HandlerError>>;

    /// Whether a vote would be granted.
    fn pre_vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<VoteResponse<TypeConfig>, HandlerError>>;

    /// The leader hands over.
    fn transfer_leader(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<TransferLeaderResponse<TypeConfig>, HandlerError>>;

    /// A snapshot of `bytes` bytes is coming.
    fn begin_snapshot(
        &self,
        from: NodeId,
        bytes: u64,
    ) -> BoxFuture<'_, io::Result<Box<dyn SnapshotSink>>>;

    /// A command for the leader's queue. Called in the order of the origin's sending, the next one
    /// when this one has resolved: resolve when it is queued, not when it is applied.
    fn forward(&self, from: NodeId, command: Command) -> BoxFuture<'_, ForwardReply>;

    /// A command came that is not the peer's to send; it was not taken.
    fn forged(&self, _from: NodeId, _why: &'static str) {}

    /// The log id that a linearizable read has to wait for.
    fn read_index(&self, from: NodeId) -> BoxFuture<'_, Result<LogId, NotLeader>>;
}

/// Where a snapshot is put while it comes. Dropped unfinished, it leaves nothing behind.
pub trait SnapshotSink: Send + 'static {
    /// The next bytes, in order.
    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, io::Result<()>>;

    /// Every byte is there: keep it and install it. Checks that it is whole.
    fn finish(
        self: Box<Self>,
        vote: Vote,
        meta: SnapshotMeta,
    ) -> BoxFuture<'static, Result<SnapshotResponse<TypeConfig>, HandlerError>>;
}
