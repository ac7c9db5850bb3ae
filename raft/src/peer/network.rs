//! The peers as openraft sees them.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use evermind_lock::command::NodeId;
use evermind_storage::types::{SnapshotMeta, TypeConfig, Vote};
use futures_util::{Stream, StreamExt};
use openraft::alias::SnapshotOf;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{
    ErrorSource, NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{
    Backoff, RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential,
};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, OptionalSend, StorageError};
use tokio::time::Instant;

use super::append::AppendError;
use super::calls::CallError;
use super::client::{Peer, PeerClient};
use super::origin::is_plausible;
use super::snapshot::{SendError, SnapshotSource, send};
use super::wire::{Answer, Call};
use super::wire_append::append_body;

/// openraft waits this long before it tries an unreachable peer again, at first.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// And this long at last. openraft begins to wait before the answer to the request before is there, so a
/// peer that is back gets its second request this much later: its callers wait for that.
const BACKOFF_MAX: Duration = Duration::from_millis(100);

/// Makes the networks that openraft asks for; `S` is what its snapshots are read from.
pub struct PeerNetworkFactory<S> {
    client: PeerClient,
    snapshots: PhantomData<fn() -> S>,
}

impl<S> PeerNetworkFactory<S> {
    /// Over these connections.
    pub fn new(client: PeerClient) -> Self {
        Self {
            client,
            snapshots: PhantomData,
        }
    }

    fn network(&self, target: NodeId, heartbeats: bool) -> PeerNetwork<S> {
        PeerNetwork {
            peer: self.client.peer(target),
            client: self.client.clone(),
            target,
            heartbeats,
            acknowledged: 0,
            snapshots: PhantomData,
        }
    }
}

impl<S: SnapshotSource> RaftNetworkFactory<TypeConfig> for PeerNetworkFactory<S> {
    type Network = PeerNetwork<S>;

    async fn new_client(&mut self, target: NodeId, _node: &EmptyNode) -> Self::Network {
        self.network(target, false)
    }

    /// openraft sends heartbeats as append streams of one request: these take the control
    /// connection, where nothing large is ever in front of them.
    async fn new_heartbeat_client(&mut self, target: NodeId, _node: &EmptyNode) -> Self::Network {
        self.network(target, true)
    }
}

/// One peer, as openraft sees it.
pub struct PeerNetwork<S> {
    client: PeerClient,
    peer: Arc<Peer>,
    target: NodeId,
    heartbeats: bool,
    /// The newest entry that the peer said it has, to this leader of this term.
    acknowledged: u64,
    snapshots: PhantomData<fn() -> S>,
}

type RpcResult<T> = Result<T, RPCError<TypeConfig>>;
type AppendStream<'s> = BoxStream<'s, RpcResult<StreamAppendResult<TypeConfig>>>;

impl<S: SnapshotSource> PeerNetwork<S> {
    /// One call on the control connection, within the option's soft limit in all.
    async fn call(&self, call: Call, action: RPCTypes, option: &RPCOption) -> RpcResult<Answer> {
        let within = option.soft_ttl();
        let deadline = Instant::now() + within;
        let lane = self
            .peer
            .control
            .ready(within)
            .await
            .map_err(Unreachable::from_string)?;
        let left = deadline.saturating_duration_since(Instant::now());
        match lane.call(call, left).await {
            Ok(Answer::Failed(reason)) => Err(Unreachable::from_string(reason).into()),
            Ok(answer) => Ok(answer),
            Err(error @ CallError::Full) => Err(Unreachable::from_string(error).into()),
            Err(error @ CallError::Lost) => Err(NetworkError::new(&error).into()),
            Err(CallError::TooSlow) => Err(self.timeout(action, within).into()),
        }
    }

    async fn ballot(
        &self,
        call: Call,
        asked: Vote,
        option: &RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        match self.call(call, RPCTypes::Vote, option).await? {
            Answer::Vote {
                vote,
                granted,
                last,
            } => {
                let vote = believe(vote.into(), asked.leader_id.term)?;
                Ok(VoteResponse::new(vote, last.map(Into::into), granted))
            }
            _ => Err(out_of_turn()),
        }
    }

    /// The peer's log lacks what it acknowledged. Consensus must not hear of it: it would look for
    /// where the two logs part, and there is no such place.
    fn reverted(&self, acknowledged: u64) -> RPCError<TypeConfig> {
        let endpoint = self.client.endpoint();
        endpoint.admission.on_reverted(self.target, acknowledged);
        Unreachable::from_string("its log lacks what it acknowledged").into()
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> Timeout<TypeConfig> {
        Timeout {
            action,
            id: self.client.endpoint().identity.node,
            target: self.target,
            timeout,
        }
    }

    fn append_error(&self, error: AppendError) -> RPCError<TypeConfig> {
        match error {
            AppendError::Lost => NetworkError::new(&error).into(),
            AppendError::Idle(idle) => self.timeout(RPCTypes::AppendEntries, idle).into(),
            AppendError::Failed(reason) => Unreachable::from_string(reason).into(),
        }
    }

    fn snapshot_error(&self, error: SendError) -> StreamingError<TypeConfig> {
        match error {
            SendError::Unreachable(error) => Unreachable::from_string(error).into(),
            SendError::Lost => NetworkError::new(&error).into(),
            SendError::Idle(idle) => self.timeout(RPCTypes::InstallSnapshot, idle).into(),
            // Sending it again at once would fail the same way.
            SendError::Failed(_) => Unreachable::from_string(error).into(),
            SendError::Read(error) => {
                StorageError::read_snapshot(None, ErrorSource::from_error(&error)).into()
            }
        }
    }
}

/// A vote that a reply tells of, to a request of term `asked`: one reply must not use up the terms
/// that later elections need.
fn believe(vote: Vote, asked: u64) -> RpcResult<Vote> {
    if is_plausible(vote.leader_id.term, asked) {
        Ok(vote)
    } else {
        Err(Unreachable::from_string("it tells of a term that no cluster has come to").into())
    }
}

fn out_of_turn() -> RPCError<TypeConfig> {
    Unreachable::from_string("it answers another call").into()
}

impl<S: SnapshotSource> RaftNetworkV2<TypeConfig> for PeerNetwork<S> {
    type SnapshotData = S;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<TypeConfig>> {
        let call = Call::Append(append_body(&rpc));
        let answer = match self.call(call, RPCTypes::AppendEntries, &option).await? {
            Answer::Append(answer) => AppendEntriesResponse::from(answer),
            _ => return Err(out_of_turn()),
        };
        match &answer {
            AppendEntriesResponse::HigherVote(vote) => {
                believe(*vote, rpc.vote.leader_id.term)?;
            }
            // A heartbeat names the newest entry that the peer acknowledged.
            AppendEntriesResponse::Conflict if self.heartbeats && rpc.entries.is_empty() => {
                return Err(self.reverted(rpc.prev_log_id.map_or(0, |id| id.index)));
            }
            _ => {}
        }
        Ok(answer)
    }

    fn stream_append<'s, I>(
        &'s mut self,
        mut input: I,
        option: RPCOption,
    ) -> BoxFuture<'s, RpcResult<AppendStream<'s>>>
    where
        I: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.heartbeats {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            let lane = match self.peer.append.ready(option.soft_ttl()).await {
                Ok(lane) => lane,
                Err(reason) => {
                    // openraft waits out its backoff where a request is asked for: a stream that
                    // fails without asking is tried again at once, thousands of times a second.
                    let _ = input.next().await;
                    return Err(Unreachable::from_string(reason).into());
                }
            };
            let idle = self.client.endpoint().config.append_idle;
            let term = Arc::new(AtomicU64::new(0));
            let asked = Arc::clone(&term);
            let input = input.inspect(move |request| {
                asked.store(request.vote.leader_id.term, Ordering::Relaxed);
            });
            let replies = lane.stream(input, idle.max(option.soft_ttl()));
            let replies = replies.map(move |reply| {
                let reply = reply.map_err(|error| self.append_error(error))?;
                match &reply {
                    Ok(Some(id)) => self.acknowledged = self.acknowledged.max(id.index),
                    Err(StreamAppendError::HigherVote(vote)) => {
                        believe(*vote, term.load(Ordering::Relaxed))?;
                    }
                    Err(StreamAppendError::Conflict(id)) if id.index <= self.acknowledged => {
                        return Err(self.reverted(self.acknowledged));
                    }
                    Ok(None) | Err(StreamAppendError::Conflict(_)) => {}
                }
                Ok(reply)
            });
            Ok(Box::pin(replies) as AppendStream<'s>)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        let asked = rpc.vote;
        self.ballot(Call::Vote(rpc.into()), asked, &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        let asked = rpc.vote;
        self.ballot(Call::PreVote(rpc.into()), asked, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, Self::SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let endpoint = self.client.endpoint();
        let meta: SnapshotMeta = snapshot.meta;
        let asked = vote.leader_id.term;
        let what = (vote, meta, snapshot.snapshot);
        tokio::select! {
            biased;
            sent = send(endpoint, self.target, what, endpoint.config.snapshot_idle) => {
                let told = sent.map_err(|error| self.snapshot_error(error))?;
                let told = believe(told, asked).map_err(StreamingError::from)?;
                Ok(SnapshotResponse::new(told))
            }
            closed = cancel => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<TypeConfig>> {
        let call = Call::from(req);
        match self.call(call, RPCTypes::TransferLeader, &option).await? {
            Answer::TransferLeader(answer) => Ok(answer.into()),
            _ => Err(out_of_turn()),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        let waits =
            std::iter::successors(Some(BACKOFF_MIN), |wait| Some((*wait * 2).min(BACKOFF_MAX)));
        Some(Backoff::new(waits))
    }
}
