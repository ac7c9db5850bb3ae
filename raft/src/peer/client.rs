//! A node's own requests to its peers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use evermind_lock::command::{Command, NodeId};
use evermind_storage::types::LogId;
use tokio::time::Instant;

use super::append::Appends;
use super::calls::Calls;
use super::endpoint::Endpoint;
use super::forward::Forwards;
use super::standing::Standing;
use super::wire::{Answer, Call};

/// Why a command is not in a leader's queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// It was not sent.
    #[error("cannot reach the leader: {0}")]
    Unreachable(String),
    /// It was not taken.
    #[error("that node does not lead")]
    NotLeader {
        /// Who leads, if that node knows.
        leader: Option<NodeId>,
    },
    /// It was sent, and whether it was taken is not known.
    #[error("the connection to the leader was lost")]
    Lost,
    /// It was not sent: [`super::FORWARDS_IN_FLIGHT_MAX`] are on their way.
    #[error("too many commands are on their way to the leader")]
    Busy,
}

/// Why there is no read index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadIndexError {
    /// That node cannot be reached, or did not answer in time.
    #[error("no read index from the leader: {0}")]
    Unreachable(String),
    /// That node does not lead.
    #[error("that node does not lead")]
    NotLeader {
        /// Who leads, if that node knows.
        leader: Option<NodeId>,
    },
}

/// Standing connections to every peer: one for each purpose but snapshots, dialed by itself and
/// again whenever it is lost. Cheap to clone; the connections end with the last clone.
#[derive(Clone)]
pub struct PeerClient(Arc<Inner>);

struct Inner {
    endpoint: Arc<Endpoint>,
    peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
}

/// The connections to one peer.
pub(super) struct Peer {
    pub append: Standing<Appends>,
    pub control: Standing<Calls>,
    pub forward: Standing<Forwards>,
}

impl PeerClient {
    /// Starts to dial every other node of the endpoint's address book. Nodes that come into it
    /// later are dialed when they are first needed.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        let client = Self(Arc::new(Inner {
            endpoint,
            peers: Mutex::default(),
        }));
        for node in client.endpoint().addresses.nodes() {
            if node != client.endpoint().identity.node {
                client.peer(node);
            }
        }
        client
    }

    /// Gives a command to the node that is believed to lead. `Ok`: it is in that node's queue, in
    /// the order of this node's sending; its outcome is learned by applying it here.
    ///
    /// While the connection is up, commands are sent in the order in which these futures are first
    /// polled.
    pub async fn forward(&self, node: NodeId, command: &Command) -> Result<(), ForwardError> {
        let lane = self
            .peer(node)
            .forward
            .ready(self.endpoint().config.dial)
            .await
            .map_err(|reason| ForwardError::Unreachable(reason.to_string()))?;
        lane.forward(command).await
    }

    /// Asks the node that is believed to lead which entry a linearizable read has to wait for.
    /// Takes [`super::PeerConfig::read_index`] at most.
    pub async fn read_index(&self, node: NodeId) -> Result<LogId, ReadIndexError> {
        let within = self.endpoint().config.read_index;
        let deadline = Instant::now() + within;
        let lane = self
            .peer(node)
            .control
            .ready(within)
            .await
            .map_err(|reason| ReadIndexError::Unreachable(reason.to_string()))?;
        let left = deadline.saturating_duration_since(Instant::now());
        match lane.call(Call::ReadIndex, left).await {
            Ok(Answer::ReadIndex(Ok(id))) => Ok(id.into()),
            Ok(Answer::ReadIndex(Err(leader))) => Err(ReadIndexError::NotLeader { leader }),
            Ok(Answer::Failed(reason)) => Err(ReadIndexError::Unreachable(reason)),
            Ok(_) => Err(ReadIndexError::Unreachable(
                "it answers another call".into(),
            )),
            Err(error) => Err(ReadIndexError::Unreachable(error.to_string())),
        }
    }

    /// When a frame of `node` last arrived on any connection, in either direction.
    pub fn last_heard(&self, node: NodeId) -> Option<Instant> {
        self.endpoint().last_heard(node)
    }

    /// Closes the connections to `node`: it is a member no more.
    pub fn forget(&self, node: NodeId) {
        let peer = self.peers().remove(&node);
        drop(peer);
    }

    /// What this client dials with.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0.endpoint
    }

    pub(super) fn peer(&self, node: NodeId) -> Arc<Peer> {
        self.peers()
            .entry(node)
            .or_insert_with(|| {
                let endpoint = self.endpoint();
                Arc::new(Peer {
                    append: Standing::start(endpoint.clone(), node),
                    control: Standing::start(endpoint.clone(), node),
                    forward: Standing::start(endpoint.clone(), node),
                })
            })
            .clone()
    }

    fn peers(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Arc<Peer>>> {
        self.0.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
