//! What this node does for its peers.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use evermind_lock::command::{Command, NodeId};
#[cfg(evermind_mutants)]
use evermind_lock::mutant::{self, Mutant};
use evermind_storage::data_dir::PUT_BACK_OR_STAY_OFF;
use evermind_storage::machine::{SNAPSHOT_BYTES_MAX, SnapshotFile, SnapshotReceiver, Snapshots};
use evermind_storage::types::{LogId, SnapshotMeta, TypeConfig, Vote};
use futures_util::StreamExt;
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use openraft::base::BoxFuture;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use tokio::time::Instant;

use super::Raft;
use super::core::{Contact, Core, lock};
use super::dispatch::propose_forwarded;
use super::following::Said;
use super::route::Route;
use crate::peer::origin::{BOOT_STEP_MAX, is_plausible};
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

impl Handler {
    /// One message must not use up the terms that later elections need.
    fn check_term(&self, vote: &Vote) -> Result<(), HandlerError> {
        check_term(&self.raft, vote)
    }
}

fn check_term(raft: &Raft, vote: &Vote) -> Result<(), HandlerError> {
    let known = raft.server_metrics().borrow_watched().vote.leader_id.term;
    if is_plausible(vote.leader_id.term, known) {
        Ok(())
    } else {
        Err(unable("no cluster has come to such a term"))
    }
}

fn unable(error: impl std::fmt::Display) -> HandlerError {
    HandlerError(error.to_string())
}

impl PeerHandler for Handler {
    fn append(&self, from: NodeId, requests: AppendRequests) -> AppendReplies {
        let known = self.raft.server_metrics();
        let core = Arc::clone(&self.core);
        let plausible = move |request: &AppendEntriesRequest<TypeConfig>| {
            let known = known.borrow_watched().vote.leader_id.term;
            let plausible = is_plausible(request.vote.leader_id.term, known);
            if plausible {
                core.heard_leader(from, request);
            }
            std::future::ready(plausible)
        };
        Box::pin(
            self.raft
                .stream_append(requests.take_while(plausible))
                .map(|reply| reply.map_err(unable)),
        )
    }

    fn append_one(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<AppendEntriesResponse<TypeConfig>, HandlerError>> {
        Box::pin(async {
            self.check_term(&request.vote)?;
            let from = request.vote.leader_id.voted_for;
            self.core.heard_leader(from, &request);
            // A heartbeat names the newest entry that the leader has acknowledged from here.
            let acknowledged = request.prev_log_id.filter(|_| request.entries.is_empty());
            let answer = self.raft.append_entries(request).await.map_err(unable)?;
            if let (AppendEntriesResponse::Conflict, Some(acknowledged)) = (&answer, acknowledged) {
                self.core.is_older_copy(from, acknowledged.index);
            }
            Ok(answer)
        })
    }

    fn vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<VoteResponse<TypeConfig>, HandlerError>> {
        Box::pin(async {
            self.check_term(&request.vote)?;
            self.raft.vote(request).await.map_err(unable)
        })
    }

    fn pre_vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<VoteResponse<TypeConfig>, HandlerError>> {
        Box::pin(async {
            self.check_term(&request.vote)?;
            let response = self.raft.pre_vote(request).await.map_err(unable);
            #[cfg(evermind_mutants)]
            let response = response.map(|response| VoteResponse {
                vote_granted: response.vote_granted || mutant::is(Mutant::PreVoteGranted),
                ..response
            });
            response
        })
    }

    fn transfer_leader(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<TransferLeaderResponse<TypeConfig>, HandlerError>> {
        Box::pin(async {
            self.check_term(request.from_leader())?;
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
            #[cfg(evermind_mutants)]
            if matches!(route, Route::Local { .. }) && mutant::is_turn(Mutant::ForwardedDropped, 10)
            {
                return ForwardReply::Accepted;
            }
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

    fn forged(&self, from: NodeId, why: &'static str) {
        if self.core.complaints.may(from, "forged") {
            tracing::warn!(
                node = from,
                why,
                "a forwarded command was not taken: it is not that node's to send; hint: who can write to the \
                 network between the nodes? Keep strangers out of it"
            );
        }
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
            check_term(&self.raft, &vote)?;
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

impl Core {
    fn heard_leader(&self, from: NodeId, request: &AppendEntriesRequest<TypeConfig>) {
        let said = Said {
            leader: from,
            term: request.vote.leader_id.term,
            committed: request.leader_commit.map_or(0, |id| id.index),
        };
        let applied = *self.applied.borrow();
        self.following.heard(said, applied, Instant::now());
    }

    /// The leader counts on entries that this node's log lacks.
    fn is_older_copy(&self, leader: NodeId, acknowledged: u64) {
        if self.complaints.may(leader, "older copy") {
            tracing::error!(
                leader,
                acknowledged,
                "this node's log lacks entries that it acknowledged to the leader: its data directory is an \
                 older copy, and the node cannot take part; hint: stop it; then {PUT_BACK_OR_STAY_OFF}"
            );
        }
    }
}

/// Whom this node talks to.
impl Admission for Core {
    fn admit(&self, node: NodeId, disk: u128, boot: u64) -> Result<(), Refusal> {
        let (recorded, newest) = self.table.read(|table| {
            let recorded = table.member(node).map(|known| known.disk);
            (recorded, table.newest_boot(node))
        });
        match newest {
            _ if recorded.is_some_and(|recorded| recorded != disk) => Err(Refusal::DiskRefused),
            Some(newest) if boot < newest => Err(Refusal::OlderCopy),
            newest if boot.saturating_sub(newest.unwrap_or(0)) > BOOT_STEP_MAX => {
                Err(Refusal::StartRefused)
            }
            _ => Ok(()),
        }
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

    fn on_reverted(&self, node: NodeId, acknowledged: u64) {
        if self.complaints.may(node, "reverted") {
            tracing::warn!(
                node,
                acknowledged,
                "the log of this node lacks entries that it acknowledged: its data directory was put back to an \
                 older copy, and it cannot take part; hint: stop it; then {PUT_BACK_OR_STAY_OFF}"
            );
        }
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
            Refusal::OlderCopy => self.stop(format!(
                "node {node} knows a later start of this node than its data directory does: it is an older copy, \
                 and what was promised since it was made is not in it\n\
                 hint: {PUT_BACK_OR_STAY_OFF}"
            )),
            Refusal::WrongCluster => {
                if self.complaints.may(node, "wrong cluster") {
                    tracing::warn!(
                        node,
                        "refused by a peer: {reason}; hint: every node's --initial-cluster must have the same \
                         ids and addresses, letter by letter (localhost is not 127.0.0.1), and the same secret; \
                         a node that has never taken part can be put right by correcting its list and \
                         starting it again"
                    );
                }
            }
            Refusal::NotAMember => {
                if self.complaints.may(node, "no member") {
                    tracing::warn!(
                        node,
                        "refused by a peer: node {} is not in its --initial-cluster; hint: list every node on every node",
                        self.me
                    );
                }
            }
            reason => {
                if self.complaints.may(node, "refused") {
                    tracing::warn!(node, %reason, "refused by a peer");
                }
            }
        }
    }
}
