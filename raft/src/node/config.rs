//! What a node is started with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::clock::{Clocks, SystemClocks};
use crate::peer::{Connect, Listen, Tcp};
use evermind_lock::command::{KeyHash, NodeId};
use evermind_lock::names::IdentityId;
use evermind_lock::table::Pieces;
use evermind_storage::disk::Disk;
use evermind_storage::log::LogOptions;
use evermind_storage::machine::TableEngine;
use evermind_storage::runner::Runner;

/// What a node is started with.
pub struct NodeConfig {
    /// This node, one of `initial_cluster`.
    pub node_id: NodeId,
    /// Where it keeps its log, table and snapshots. Made if it is not there.
    pub data_dir: PathBuf,
    /// Where peers connect. Bound by the caller, so that a taken port is told before anything
    /// starts.
    pub peer_listener: Box<dyn Listen>,
    /// `host:port` under which peers reach `peer_listener`.
    pub advertise_peer: String,
    /// `http://host:port` under which clients reach this node; shown by `/v1/cluster`.
    pub advertise_http: String,
    /// Id to `host:port` of every founding member, this one included. The addresses count at every
    /// start, the ids only at the first.
    pub initial_cluster: BTreeMap<NodeId, String>,
    /// What every node of the cluster must prove to know.
    pub cluster_secret: Option<Vec<u8>>,
    /// Shown before each lock's name; counts when the cluster is made.
    pub global_prefix: String,
    /// Hash of the operator's key, and whose locks it opens.
    pub bootstrap_key: Option<(KeyHash, IdentityId)>,
    /// How much log is kept.
    pub log_kept: LogKept,
}

/// How much log a node keeps. Less than the default makes and sends snapshots sooner, for tests.
#[derive(Debug, Clone, Copy)]
pub struct LogKept {
    /// Bytes before a snapshot is made: the bound on the log that its users are told.
    pub bytes: u64,
    /// Entries that stay behind a snapshot, for peers that lag: one that lags further is sent the
    /// snapshot.
    pub entries: u64,
}

impl Default for LogKept {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            entries: 10_000,
        }
    }
}

/// Heartbeats and elections: one profile, because the numbers only make sense together.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// The shortest election timeout.
    pub election_min: Duration,
    /// The longest election timeout.
    pub election_max: Duration,
}

impl Timing {
    /// For nodes within a few ms of each other.
    pub const LAN: Self = Self {
        heartbeat: Duration::from_millis(175),
        election_min: Duration::from_millis(200),
        election_max: Duration::from_millis(350),
    };

    /// No follower that heard its leader stands for election before this has passed, unless it hands
    /// its office over: the leader's lease, which is as long as the longest election timeout, and the
    /// shortest of them.
    pub(super) fn silence_min(self) -> Duration {
        self.election_max + self.election_min
    }
}

/// What a simulation replaces.
pub struct Seams {
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// What runs blocking steps.
    pub runner: Arc<dyn Runner>,
    /// What keeps the checkpoint of the lease table.
    pub tables: Arc<dyn TableEngine>,
    /// The sizes of the log.
    pub log: LogOptions,
    /// How much an entry ends of what is over: the same on every node of a cluster.
    pub pieces: Pieces,
    /// What dials peers.
    pub connector: Arc<dyn Connect>,
    /// Monotonic and wall time.
    pub clocks: Arc<dyn Clocks>,
    /// Fills with bytes that never repeat: disk ids and nonces.
    pub random: Random,
}

/// See [`Seams::random`].
pub(super) type Random = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

impl Default for Seams {
    fn default() -> Self {
        Self {
            disk: Arc::new(evermind_storage::disk::RealDisk),
            runner: Arc::new(evermind_storage::runner::Threads),
            tables: Arc::new(evermind_storage::machine::SledTables),
            log: LogOptions::default(),
            pieces: Pieces::default(),
            connector: Arc::new(Tcp),
            clocks: Arc::new(SystemClocks),
            // Without randomness neither a disk's number nor a proof means anything.
            random: Arc::new(|bytes| getrandom::fill(bytes).expect("the system gives randomness")),
        }
    }
}

/// Why a node does not start. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be right.
    #[error("{0}")]
    Config(String),
    /// The data directory cannot be used, or something in it is damaged.
    #[error("{0}")]
    Storage(String),
    /// Consensus does not start.
    #[error("consensus does not start: {0}")]
    Consensus(String),
}
