//! What this node does for its peers.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use evermind_lock::command::{Command, NodeId};
use evermind_storage::machine::{SNAPSHOT_BYTES_MAX, SnapshotFile, SnapshotReceiver, Snapshots};
use evermind_storage::types::{LogId, SnapshotMeta, TypeConfig, Vote};
use futures_util::StreamExt;
use openraft::ReadPolicy;
use openraft::base::BoxFuture;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::Raft;
use super::core::{Contact, Core, lock};
use super::dispatch::propose_forwarded;
use super::route::Route;
use crate::peer::{
    Admission, AppendReplies, AppendRequests, ForwardReply, HandlerError, NotLeader, PeerHandler,
    Refusal, SnapshotSink, SnapshotSource,
};

/// The node as its peers see it.
pub(crate) struct Handler {
    pub(crate) core: Arc<Core>,
    pub(crate) raft: Raft,
    pub(crate) snapshots: Snapshots,
}

fn unable(error: impl std::fmt::Display) -> HandlerError {
    HandlerError(error.to_string())
}

impl PeerHandler for Handler {
    fn append(&self, _from: NodeId, requests: AppendRequests) -> AppendReplies {
        Box::pin(
            self.raft
                .stream_append(requests)
                .map(|reply| reply.map_err(unable)),
        )
    }

    fn append_one(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<AppendEntriesResponse<TypeConfig>, HandlerError>> {
        Box::pin(async { self.raft.append_entries(request).await.map_err(unable) })
    }

    fn vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<VoteResponse<TypeConfig>, HandlerError>> {
        Box::pin(async { self.raft.vote(request).await.map_err(unable) })
    }

    fn pre_vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<VoteResponse<TypeConfig>, HandlerError>> {
        Box::pin(async { self.raft.pre_vote(request).await.map_err(unable) })
    }

    fn transfer_leader(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<TransferLeaderResponse<TypeConfig>, HandlerError>> {
        Box::pin(async {
            let handled = self.raft.handle_transfer_leader(request).await;
            self.core.hands_over.notify_one();
            handled.map_err(unable)
        })
    }

    fn begin_snapshot(
        &self,
        _from: NodeId,
        bytes: u64,
    ) -> BoxFuture<'_, io::Result<Box<dyn SnapshotSink>>> {
        Box::pin(async move {
            if bytes > SNAPSHOT_BYTES_MAX {
                return Err(io::Error::other("the snapshot is larger than any of ours"));
            }
            let receiver = self.snapshots.receive().await?;
            let raft = self.raft.clone();
            Ok(Box::new(Incoming { receiver, raft }) as Box<dyn SnapshotSink>)
        })
    }

    fn forward(&self, _from: NodeId, command: Command) -> BoxFuture<'_, ForwardReply> {
        Box::pin(async move {
            let route = self.core.route();
            if let Route::Local { term } = route
                && propose_forwarded(&self.core, &self.raft, term, command).await
            {
                return ForwardReply::Accepted;
            }
            let leader = route
                .leader(self.core.me)
                .filter(|leader| *leader != self.core.me);
            ForwardReply::NotLeader { leader }
        })
    }

    fn read_index(&self, _from: NodeId) -> BoxFuture<'_, Result<LogId, NotLeader>> {
        Box::pin(async {
            match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
                Ok(linearizer) => Ok(*linearizer.read_log_id().log_id()),
                Err(_) => Err(NotLeader {
                    leader: self
                        .core
                        .route()
                        .leader(self.core.me)
                        .filter(|leader| *leader != self.core.me),
                }),
            }
        })
    }
}

/// A snapshot on its way out.
impl SnapshotSource for SnapshotFile {
    fn byte_len(&self) -> u64 {
        self.len()
    }

    fn read(&self, offset: u64, max: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        Box::pin(SnapshotFile::read(self, offset, max))
    }
}

/// A snapshot on its way in.
struct Incoming {
    receiver: SnapshotReceiver,
    raft: Raft,
}

impl SnapshotSink for Incoming {
    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(self.receiver.push(chunk))
    }

    fn finish(
        self: Box<Self>,
        vote: Vote,
        meta: SnapshotMeta,
    ) -> BoxFuture<'static, Result<SnapshotResponse<TypeConfig>, HandlerError>> {
        Box::pin(async move {
            let file = self.receiver.finish().await.map_err(unable)?;
            // What the file says of itself is covered by its checksums; what was said beside it
            // must be the same.
            if file.snapshot_meta() != meta {
                return Err(HandlerError(
                    "the snapshot is not the one that was announced".to_owned(),
                ));
            }
            let snapshot = openraft::Snapshot {
                meta,
                snapshot: file,
            };
            self.raft
                .install_full_snapshot(vote, snapshot)
                .await
                .map_err(unable)
        })
    }
}

/// Whom this node talks to.
impl Admission for Core {
    fn admit(&self, node: NodeId, disk: u128) -> bool {
        self.table
            .read(|table| table.member(node).is_none_or(|known| known.disk == disk))
    }

    fn on_contact(&self, contact: &crate::peer::Contact) {
        let met = Contact {
            disk: contact.disk,
            http: contact.http.clone(),
            boot: contact.boot,
        };
        lock(&self.contacts).insert(contact.node, met);
        self.met.notify_one();
    }

    fn on_refused(&self, node: NodeId, reason: Refusal) {
        match reason {
            Refusal::DiskRefused => self.stop(format!(
                "node {node} knows this node's id with another disk: this data directory is not the one that \
                 node {me} had, so what it promised may be forgotten\n\
                 hint: give it the data directory that node {me} last ran on; otherwise leave this node off: the \
                 others go on without it, and no new node can take its place yet",
                me = self.me
            )),
            reason => tracing::warn!(node, %reason, "refused by a peer"),
        }
    }
}
