//! Two or three transports in one process, with handlers that do what a test says.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use evermind_lock::command::{Action, Command, LicenceId, NodeId, OpId, Operation};
use evermind_raft::peer::{
    AddressBook, Admission, AppendReplies, AppendRequests, Contact, Endpoint, ForwardReply,
    HandlerError, Identity, NotLeader, PeerClient, PeerConfig, PeerHandler, PeerNetwork,
    PeerNetworkFactory, PeerServer, Refusal, Secret, SnapshotSink, SnapshotSource, serve,
};
use evermind_storage::types::{Entry, LogId, SnapshotMeta, TypeConfig, Vote};
use futures_util::StreamExt;
use openraft::EntryPayload;
use openraft::base::BoxFuture;
use openraft::network::RaftNetworkFactory;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

/// Every wait of a test ends by then.
const DEADLINE: Duration = Duration::from_secs(20);

/// Polls until it holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// What the handshake told a node.
#[derive(Default)]
pub(crate) struct Gate {
    pub(crate) disks: Mutex<BTreeMap<NodeId, u128>>,
    pub(crate) contacts: Mutex<Vec<Contact>>,
    pub(crate) refused: Mutex<Vec<(NodeId, Refusal)>>,
}

impl Admission for Gate {
    fn admit(&self, node: NodeId, disk: u128, _boot: u64) -> Result<(), Refusal> {
        let disks = self.disks.lock().unwrap();
        match disks.get(&node) {
            Some(recorded) if *recorded != disk => Err(Refusal::DiskRefused),
            _ => Ok(()),
        }
    }
    fn on_contact(&self, contact: &Contact) {
        self.contacts.lock().unwrap().push(contact.clone());
    }
    fn on_refused(&self, node: NodeId, reason: Refusal) {
        self.refused.lock().unwrap().push((node, reason));
    }
}

/// A node that only notes what it is asked.
pub(crate) struct FakeNode {
    pub(crate) leader: Mutex<Option<NodeId>>,
    pub(crate) forwarded: Mutex<Vec<u64>>,
    pub(crate) appended: Mutex<Vec<u64>>,
    pub(crate) streams: AtomicU64,
    pub(crate) heartbeats: AtomicU64,
    /// Appends and forwards take one permit each.
    pub(crate) gate: Arc<Semaphore>,
    pub(crate) conflict_at: AtomicU64,
    pub(crate) snapshot: Mutex<Vec<u8>>,
    pub(crate) installed: Mutex<Option<(Vote, SnapshotMeta)>>,
    pub(crate) snapshots_dropped: AtomicU64,
    pub(crate) snapshot_stuck: AtomicBool,
}

impl FakeNode {
    pub(crate) fn new() -> Self {
        Self {
            leader: Mutex::new(None),
            forwarded: Mutex::default(),
            appended: Mutex::default(),
            streams: AtomicU64::new(0),
            heartbeats: AtomicU64::new(0),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            conflict_at: AtomicU64::new(u64::MAX),
            snapshot: Mutex::default(),
            installed: Mutex::default(),
            snapshots_dropped: AtomicU64::new(0),
            snapshot_stuck: AtomicBool::new(false),
        }
    }

    /// From now on appends and forwards wait for permits.
    pub(crate) fn hold(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(crate) fn release(&self, permits: usize) {
        self.gate.add_permits(permits);
    }
}

pub(crate) struct Shared(pub(crate) Arc<FakeNode>);

impl PeerHandler for Shared {
    fn append(&self, _from: NodeId, requests: AppendRequests) -> AppendReplies {
        self.0.streams.fetch_add(1, Ordering::Relaxed);
        let node = self.0.clone();
        Box::pin(requests.then(move |request| {
            let node = node.clone();
            async move {
                node.gate.acquire().await.unwrap().forget();
                let mut last = request.prev_log_id;
                for entry in &request.entries {
                    if entry.log_id.index >= node.conflict_at.load(Ordering::Relaxed) {
                        return Ok(Err(StreamAppendError::Conflict(entry.log_id)));
                    }
                    node.appended.lock().unwrap().push(entry.log_id.index);
                    last = Some(entry.log_id);
                }
                Ok(Ok(last))
            }
        }))
    }

    fn append_one(
        &self,
        _request: AppendEntriesRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<AppendEntriesResponse<TypeConfig>, HandlerError>> {
        self.0.heartbeats.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(AppendEntriesResponse::Success) })
    }

    fn vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<VoteResponse<TypeConfig>, HandlerError>> {
        Box::pin(async move { Ok(VoteResponse::new(request.vote, request.last_log_id, true)) })
    }

    fn pre_vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<VoteResponse<TypeConfig>, HandlerError>> {
        Box::pin(async move { Ok(VoteResponse::new(request.vote, None, false)) })
    }

    fn transfer_leader(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<TransferLeaderResponse<TypeConfig>, HandlerError>> {
        Box::pin(async move {
            if *request.to_node_id() == 9 {
                return Err(HandlerError("stopping".into()));
            }
            Ok(Ok(()))
        })
    }

    fn begin_snapshot(
        &self,
        _from: NodeId,
        _bytes: u64,
    ) -> BoxFuture<'_, io::Result<Box<dyn SnapshotSink>>> {
        let node = self.0.clone();
        Box::pin(async { Ok(Box::new(Sink { node, done: false }) as Box<dyn SnapshotSink>) })
    }

    fn forward(&self, _from: NodeId, command: Command) -> BoxFuture<'_, ForwardReply> {
        Box::pin(async move {
            self.0.gate.acquire().await.unwrap().forget();
            if let Some(leader) = *self.0.leader.lock().unwrap() {
                return ForwardReply::NotLeader {
                    leader: Some(leader),
                };
            }
            let sequence = command.operation.unwrap().id.sequence;
            self.0.forwarded.lock().unwrap().push(sequence);
            ForwardReply::Accepted
        })
    }

    fn read_index(&self, _from: NodeId) -> BoxFuture<'_, Result<LogId, NotLeader>> {
        Box::pin(async {
            match *self.0.leader.lock().unwrap() {
                Some(leader) => Err(NotLeader {
                    leader: Some(leader),
                }),
                None => Ok(log_id(3, 77)),
            }
        })
    }
}

struct Sink {
    node: Arc<FakeNode>,
    done: bool,
}

impl SnapshotSink for Sink {
    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            if self.node.snapshot_stuck.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            self.node.snapshot.lock().unwrap().extend_from_slice(&chunk);
            Ok(())
        })
    }

    fn finish(
        mut self: Box<Self>,
        vote: Vote,
        meta: SnapshotMeta,
    ) -> BoxFuture<'static, Result<SnapshotResponse<TypeConfig>, HandlerError>> {
        Box::pin(async move {
            self.done = true;
            *self.node.installed.lock().unwrap() = Some((vote, meta));
            Ok(SnapshotResponse::new(vote))
        })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if !self.done {
            self.node.snapshots_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A snapshot in memory.
#[derive(Clone)]
pub(crate) struct Bytewise(pub(crate) Arc<Vec<u8>>);

impl SnapshotSource for Bytewise {
    fn byte_len(&self) -> u64 {
        self.0.len() as u64
    }
    fn read(&self, offset: u64, max: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        let from = usize::try_from(offset).unwrap();
        let to = (from + max).min(self.0.len());
        let chunk = Bytes::copy_from_slice(&self.0[from..to]);
        Box::pin(async { Ok(chunk) })
    }
}

/// Bounds short enough for tests.
pub(crate) fn config() -> PeerConfig {
    PeerConfig {
        handshake: Duration::from_millis(300),
        stall: Duration::from_millis(400),
        append_idle: Duration::from_millis(500),
        snapshot_idle: Duration::from_millis(500),
        ..PeerConfig::default()
    }
}

pub(crate) fn identity(node: NodeId) -> Identity {
    Identity {
        cluster: [7; 16],
        node,
        disk: u128::from(node) * 1000,
        boot: 5,
        http: format!("http://node{node}:1"),
        secret: Some(Secret::new(*b"the cluster's secret")),
    }
}

/// One node's transport.
pub(crate) struct TestNode {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) node: Arc<FakeNode>,
    pub(crate) client: PeerClient,
    pub(crate) address: String,
    pub(crate) server: Option<PeerServer>,
}

impl TestNode {
    /// Binds a port, enters it in the book, serves and dials.
    pub(crate) async fn start(identity: Identity, book: &AddressBook) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        book.set(identity.node, address.clone());
        let gate = Arc::new(Gate::default());
        let mut endpoint = Endpoint::new(identity, book.clone(), gate.clone());
        endpoint.config = config();
        let endpoint = Arc::new(endpoint);
        let node = Arc::new(FakeNode::new());
        let server = serve(endpoint.clone(), listener, Arc::new(Shared(node.clone())));
        Self {
            client: PeerClient::new(endpoint.clone()),
            endpoint,
            gate,
            node,
            address,
            server: Some(server),
        }
    }

    /// Accepts again where it accepted before.
    pub(crate) async fn serve_again(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        let listener = loop {
            match TcpListener::bind(&self.address).await {
                Ok(listener) => break listener,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            sleep(Duration::from_millis(5)).await;
        };
        let handler = Arc::new(Shared(self.node.clone()));
        self.server = Some(serve(self.endpoint.clone(), listener, handler));
    }

    pub(crate) async fn network(&self, target: NodeId) -> PeerNetwork<Bytewise> {
        let mut factory = PeerNetworkFactory::new(self.client.clone());
        factory.new_client(target, &openraft::EmptyNode {}).await
    }

    pub(crate) async fn heartbeats(&self, target: NodeId) -> PeerNetwork<Bytewise> {
        let mut factory = PeerNetworkFactory::new(self.client.clone());
        factory
            .new_heartbeat_client(target, &openraft::EmptyNode {})
            .await
    }
}

/// Two nodes that know each other.
pub(crate) async fn pair() -> (TestNode, TestNode) {
    let book = AddressBook::default();
    let two = TestNode::start(identity(2), &book).await;
    let one = TestNode::start(identity(1), &book).await;
    (one, two)
}

pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

pub(crate) fn command(sequence: u64) -> Command {
    Command {
        operation: Some(Operation {
            id: OpId {
                node: 1,
                boot: 5,
                sequence,
            },
            answered_below: sequence.min(1),
        }),
        action: Action::RevokeLicence(LicenceId(1)),
    }
}

/// An append of the entry at `index`.
pub(crate) fn append(index: u64) -> AppendEntriesRequest<TypeConfig> {
    AppendEntriesRequest {
        vote: Vote::new_committed(3, 1),
        prev_log_id: Some(log_id(3, index - 1)),
        entries: vec![Entry {
            log_id: log_id(3, index),
            payload: EntryPayload::Blank,
        }],
        leader_commit: Some(log_id(3, index - 1)),
    }
}
