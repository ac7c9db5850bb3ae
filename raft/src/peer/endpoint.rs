//! What a node's dialing and accepting halves share.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evermind_lock::command::NodeId;
use tokio::time::Instant;

use super::address::AddressBook;
use super::hello::Refusal;
use super::stats::PeerStats;
use crate::complaints::Complaints;

use super::transport::{Connect, Plain, Tcp, Wrap};

/// What proves that a node belongs to the cluster. Never printed.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// The cluster's secret, as its operator chose it.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Who this node is, as it tells its peers.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Which cluster.
    pub cluster: [u8; 16],
    /// Which node of it.
    pub node: NodeId,
    /// The random number of its data directory.
    pub disk: u128,
    /// How often that directory has been started.
    pub boot: u64,
    /// `http://host:port` for clients: at most 1,024 bytes.
    pub http: String,
    /// Every node of the cluster has the same, or none has one.
    pub secret: Option<Secret>,
}

/// A peer that proved who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// Which node.
    pub node: NodeId,
    /// The random number of its data directory.
    pub disk: u128,
    /// How often that directory has been started.
    pub boot: u64,
    /// `http://host:port` for clients.
    pub http: String,
}

/// What the node decides about its peers. Called from the connections' tasks: must not block.
pub trait Admission: Send + Sync + 'static {
    /// Whether `disk`, in its start `boot`, may speak for `node`: it is the recorded one, or none is
    /// recorded yet, and the start can follow on the newest that is recorded. Asked at every
    /// handshake on both sides, only of peers that proved the secret.
    ///
    /// # Errors
    /// Why not.
    fn admit(&self, node: NodeId, disk: u128, boot: u64) -> Result<(), Refusal>;
    /// A handshake with this peer was completed.
    fn on_contact(&self, contact: &Contact);
    /// `node` refused this node. [`Refusal::DiskRefused`] and [`Refusal::OlderCopy`] come only with
    /// `node`'s own proof: they say that this node's disk is not the one the cluster knows, or not
    /// any more, and this node must stop. The others may be a misconfiguration at either end.
    fn on_refused(&self, node: NodeId, reason: Refusal);
    /// The log of `node` lacks entries that it acknowledged to this leader, up to this index.
    fn on_reverted(&self, _node: NodeId, _acknowledged: u64) {}
}

/// Bounds in time. The defaults suit a LAN.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// To connect and be through the handshake, for the side that dials.
    pub dial: Duration,
    /// To be through the handshake, for the side that accepts.
    pub handshake: Duration,
    /// First wait after a failed dial; doubles up to `redial_max`.
    pub redial_min: Duration,
    /// Longest wait after a failed dial.
    pub redial_max: Duration,
    /// A connection with something unanswered is given up when nothing at all has arrived for this
    /// long. The peer's transport answers pings by itself, so this is about the network and the
    /// process, not about a slow disk.
    pub stall: Duration,
    /// An idle connection is pinged this often.
    pub keepalive: Duration,
    /// An accepted connection is closed when nothing has arrived for this long.
    pub idle: Duration,
    /// A write that moves nothing for this long ends its connection.
    pub write: Duration,
    /// An append stream fails when requests are out and no reply has come for this long. Longer
    /// than a stall of the follower's disk: giving up would only send the same entries again.
    pub append_idle: Duration,
    /// A snapshot fails when it makes no progress for this long.
    pub snapshot_idle: Duration,
    /// To answer a read index.
    pub read_index: Duration,
}

impl Default for PeerConfig {
    fn default() -> Self {
        Self {
            dial: Duration::from_secs(1),
            handshake: Duration::from_secs(3),
            redial_min: Duration::from_millis(20),
            redial_max: Duration::from_millis(500),
            stall: Duration::from_secs(1),
            keepalive: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            write: Duration::from_secs(10),
            append_idle: Duration::from_secs(5),
            snapshot_idle: Duration::from_mins(1),
            read_index: Duration::from_secs(1),
        }
    }
}

/// Fills a nonce with bytes that never repeat.
pub type Nonces = Arc<dyn Fn(&mut [u8; 32]) + Send + Sync>;

/// One node's end of its connections. Public fields are to be set before it is shared.
pub struct Endpoint {
    /// Who this node is.
    pub identity: Identity,
    /// The bounds.
    pub config: PeerConfig,
    /// Where the peers are.
    pub addresses: AddressBook,
    /// What decides about peers.
    pub admission: Arc<dyn Admission>,
    /// What dials.
    pub connector: Arc<dyn Connect>,
    /// What goes around each stream.
    pub wrap: Arc<dyn Wrap>,
    /// Where nonces come from: the system, or a simulator's seed.
    pub nonces: Nonces,
    pub(super) complaints: Complaints,
    stats: PeerStats,
    heard: Heard,
}

impl Endpoint {
    /// An endpoint over plain TCP, with the default bounds and the system's randomness.
    ///
    /// # Panics
    /// When a nonce is made, if the system gives no randomness.
    pub fn new(identity: Identity, addresses: AddressBook, admission: Arc<dyn Admission>) -> Self {
        Self {
            identity,
            config: PeerConfig::default(),
            addresses,
            admission,
            connector: Arc::new(Tcp),
            wrap: Arc::new(Plain),
            nonces: Arc::new(|nonce| {
                // Without randomness no proof means anything.
                getrandom::fill(nonce).expect("the system gives randomness");
            }),
            complaints: Complaints::default(),
            stats: PeerStats::default(),
            heard: Heard::new(),
        }
    }

    /// When a frame of `node` last arrived on any connection, dialed or accepted.
    pub fn last_heard(&self, node: NodeId) -> Option<Instant> {
        self.heard.last(node)
    }

    /// The counters.
    pub fn stats(&self) -> &PeerStats {
        &self.stats
    }

    pub(super) fn ear(&self, node: NodeId) -> Ear {
        self.heard.ear(node)
    }

    pub(super) fn nonce(&self) -> [u8; 32] {
        let mut nonce = [0; 32];
        (self.nonces)(&mut nonce);
        nonce
    }
}

/// When each peer was last heard.
struct Heard {
    since: Instant,
    peers: Mutex<BTreeMap<NodeId, Arc<AtomicU64>>>,
}

impl Heard {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            peers: Mutex::default(),
        }
    }

    fn last(&self, node: NodeId) -> Option<Instant> {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let micros = peers.get(&node)?.load(Ordering::Relaxed);
        Some(self.since + Duration::from_micros(micros))
    }

    fn ear(&self, node: NodeId) -> Ear {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        Ear {
            since: self.since,
            micros: peers.entry(node).or_default().clone(),
        }
    }
}

/// Notes that one peer was heard.
#[derive(Clone)]
pub(super) struct Ear {
    since: Instant,
    micros: Arc<AtomicU64>,
}

impl Ear {
    pub(super) fn heard(&self, at: Instant) {
        let micros = u64::try_from((at - self.since).as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_max(micros, Ordering::Relaxed);
    }
}
