//! Starting a node, and stopping what was started.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};

use super::closing::{Background, Closing, SharedCheckpoints};
use super::config::{NodeConfig, Seams, StartError, Timing};
use super::core::{Core, lock};
use super::handler::Handler;
use super::keys::Keys;
use super::reads::Reads;
use super::steward::{Founding, Steward};
use super::{Inner, Node, Raft, dispatch, elections, leadership, upkeep};
use crate::peer::{self, AddressBook, Endpoint, PeerClient, PeerNetworkFactory, Secret};
use evermind_lock::command::NodeId;
use evermind_lock::outcome::Event;
use evermind_storage::data_dir::{DataDir, DirLock, Identity, PUT_BACK_OR_STAY_OFF};
use evermind_storage::disk::Disk;
use evermind_storage::log::LogStore;
use evermind_storage::machine::{
    Applied, Checkpointer, Checkpoints, LogExtent, Machine, MachineOptions, Observer, Progress,
};
use openraft::errors::{InitializeError, RaftError};
use openraft::{Config, EmptyNode, SnapshotPolicy};
use sha2::{Digest, Sha256};

/// The observer is needed before what it tells is made.
#[derive(Default)]
struct Late(OnceLock<Arc<Core>>);

impl Observer for Late {
    fn applied(&self, batch: &[Applied], events: &[(u64, Event)], progress: Progress) {
        if let Some(core) = self.0.get() {
            core.applied(batch, events, progress);
        }
    }

    fn replaced(&self, progress: Progress) {
        if let Some(core) = self.0.get() {
            core.replaced(progress);
        }
    }
}

/// What a node's storage is, opened.
struct Opened {
    dir: DataDir,
    log: LogStore,
    machine: Machine,
    checkpointer: Checkpointer,
    observer: Arc<Late>,
}

impl Node {
    /// Starts a node on this machine's disk and clocks. Opening blocks the calling thread for as
    /// long as reading the log and the table takes.
    ///
    /// # Errors
    /// If the configuration or what is on disk does not allow it; each message says what to do.
    pub async fn start(config: NodeConfig) -> Result<Node, StartError> {
        let lock = DirLock::take(&config.data_dir)
            .map_err(|error| StartError::Storage(error.to_string()))?;
        Self::start_with(config, Seams::default(), Timing::LAN, Some(lock)).await
    }

    /// Starts a node on what a simulation gives it.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_with(
        config: NodeConfig,
        seams: Seams,
        timing: Timing,
        lock: Option<DirLock>,
    ) -> Result<Node, StartError> {
        check(&config)?;
        let Opened {
            dir,
            log,
            machine,
            checkpointer,
            observer,
        } = open(&config, &seams, lock)?;
        let (core, inbox) = Core::new(
            config.node_id,
            dir.boot(),
            Arc::clone(&seams.clocks),
            machine.handle(),
        );
        // Set before anything is applied, and only here.
        let _ = observer.0.set(Arc::clone(&core));

        let founding = founding(&config, &dir);
        let addresses = AddressBook::new(config.initial_cluster.clone());
        let endpoint = Arc::new(endpoint(&config, &dir, &addresses, &core, &seams));
        let peers = PeerClient::new(Arc::clone(&endpoint));
        let snapshots = machine.snapshots();
        let raft = Raft::build(
            config.node_id,
            Arc::new(raft_config(timing, config.log_kept.entries)?),
            PeerNetworkFactory::new(peers.clone()),
            log.clone(),
            machine,
        )
        .await
        .map_err(|error| StartError::Consensus(error.to_string()))?;
        let handler = Arc::new(Handler {
            core: Arc::clone(&core),
            raft: raft.clone(),
            snapshots: snapshots.clone(),
        });
        let server = peer::serve(endpoint, config.peer_listener, handler);
        raft.run();

        let background = Background::default();
        let reads = Reads::start(Arc::clone(&core), raft.clone(), peers.clone());
        let caught_up = Arc::new(AtomicBool::new(false));
        background.spawn(leadership::run(
            Arc::clone(&core),
            raft.clone(),
            peers.clone(),
        ));
        let founders = config.initial_cluster.keys().copied().collect();
        for_consensus(&background, &core, &raft, timing, founders);
        background.spawn(dispatch::run(Arc::clone(&core), raft.clone(), peers, inbox));
        background.spawn(upkeep::catch_up(
            Arc::clone(&core),
            reads.clone(),
            config.bootstrap_key.as_ref().map(|(key, _)| *key),
            Arc::clone(&caught_up),
        ));
        background.spawn(upkeep::watch_disk(Arc::clone(&core), log.clone()));
        background.spawn(upkeep::compact(
            Arc::clone(&core),
            raft.clone(),
            log.clone(),
            snapshots,
            config.log_kept.bytes,
        ));
        let (steered, book) = (Arc::clone(&core), addresses.clone());
        let steward = Steward::new(steered, raft.clone(), book, founding);
        background.spawn(steward.run());
        let checkpoints = start_checkpoints(&core, checkpointer, &seams);
        background.spawn(upkeep::tick_checkpoints(
            Arc::clone(&core),
            Arc::clone(&checkpoints),
        ));

        Ok(Node {
            inner: Arc::new(Inner {
                keys: Keys::new(Arc::clone(&core), reads.clone()),
                core,
                raft,
                reads,
                addresses,
                caught_up,
                runner: Arc::clone(&seams.runner),
                listings: Arc::default(),
                closing: Closing {
                    background,
                    checkpoints,
                    log,
                    server: Mutex::new(Some(server)),
                    _dir: dir,
                },
            }),
        })
    }
}

/// What consensus does not do by itself.
fn for_consensus(
    background: &Background,
    core: &Arc<Core>,
    raft: &Raft,
    timing: Timing,
    founders: BTreeSet<NodeId>,
) {
    background.spawn(form(Arc::clone(core), raft.clone(), founders));
    background.spawn(elections::run(Arc::clone(core), raft.clone(), timing));
    background.spawn(upkeep::heartbeats(raft.clone(), timing.heartbeat));
}

/// What this node may settle once for the cluster, if it leads.
fn founding(config: &NodeConfig, dir: &DataDir) -> Founding {
    Founding {
        global_prefix: config.global_prefix.clone(),
        api_key: config.bootstrap_key.clone(),
        advertise_http: config.advertise_http.clone(),
        advertise_peer: config.advertise_peer.clone(),
        disk: dir.disk_id(),
    }
}

fn start_checkpoints(
    core: &Arc<Core>,
    checkpointer: Checkpointer,
    seams: &Seams,
) -> SharedCheckpoints {
    let core = Arc::clone(core);
    // The table is a checkpoint of what the log has: without it a start takes longer, no more. But a
    // disk that fails one write will fail others.
    let failed = move |error| core.stop(format!("the lease table cannot be written: {error}"));
    let checkpoints = Checkpoints::start(checkpointer, &*seams.runner, failed);
    Arc::new(Mutex::new(Some(checkpoints)))
}

fn check(config: &NodeConfig) -> Result<(), StartError> {
    if config.node_id == 0 {
        return Err(StartError::Config(
            "a node's id is 1 or more\nhint: --node-id 1".to_owned(),
        ));
    }
    if !config.initial_cluster.contains_key(&config.node_id) {
        let ids: Vec<_> = config
            .initial_cluster
            .keys()
            .map(ToString::to_string)
            .collect();
        return Err(StartError::Config(format!(
            "node {} is not in the initial cluster, which has {}\n\
             hint: --initial-cluster lists every founding node as id=host:port, this one included",
            config.node_id,
            ids.join(", ")
        )));
    }
    Ok(())
}

/// Which cluster this is, when it is made: its founding members and their secret. Kept in the data
/// directory from then on, so that addresses may change later.
fn cluster_id(config: &NodeConfig) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(b"evermind cluster 1\0");
    for (node, address) in &config.initial_cluster {
        hash.update(node.to_le_bytes());
        hash.update((address.len() as u64).to_le_bytes());
        hash.update(address.as_bytes());
    }
    let secret = config.cluster_secret.as_deref().unwrap_or_default();
    hash.update((secret.len() as u64).to_le_bytes());
    hash.update(secret);
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    id
}

fn open(config: &NodeConfig, seams: &Seams, lock: Option<DirLock>) -> Result<Opened, StartError> {
    let storage = |error: &dyn std::fmt::Display| StartError::Storage(error.to_string());
    let mut new_disk = [0; 16];
    (seams.random)(&mut new_disk);
    let identity = Identity {
        node: config.node_id,
        cluster: cluster_id(config),
    };
    let new_disk = u128::from_le_bytes(new_disk);
    let mut dir = DataDir::open(&*seams.disk, &config.data_dir, identity, new_disk, lock)
        .map_err(|error| storage(&error))?;
    if !dir.is_fresh() && !has_segments(&*seams.disk, &dir.log()) {
        return Err(StartError::Storage(format!(
            "{} has no segment, and this node has run before: its log is gone, and with it what it promised\n\
             hint: {PUT_BACK_OR_STAY_OFF}",
            dir.log().display()
        )));
    }
    let log = LogStore::open(
        &dir.log(),
        Arc::clone(&seams.disk),
        Arc::clone(&seams.runner),
        seams.log,
    )
    .map_err(|error| storage(&error))?;
    let recovered = log.recovered();
    if recovered.last.is_none() && !recovered.voted {
        // It has promised nothing to any cluster.
        dir.move_to(&*seams.disk, identity.cluster)
            .map_err(|error| storage(&error))?;
    }
    let observer = Arc::new(Late::default());
    let (machine, checkpointer) = Machine::open(MachineOptions {
        disk: Arc::clone(&seams.disk),
        runner: Arc::clone(&seams.runner),
        tables: Arc::clone(&seams.tables),
        table_dir: dir.table(),
        snapshot_dir: dir.snapshot(),
        log: LogExtent {
            last: recovered.last,
            purged: recovered.purged,
        },
        synced: log.watch_synced(),
        observer: Arc::clone(&observer) as Arc<dyn Observer>,
        pieces: seams.pieces,
    })
    .map_err(|error| storage(&error))?;
    dir.settle(&*seams.disk).map_err(|error| storage(&error))?;
    Ok(Opened {
        dir,
        log,
        machine,
        checkpointer,
        observer,
    })
}

/// Whether a log was ever begun here. What cannot be listed is told by opening it.
fn has_segments(disk: &dyn Disk, log: &Path) -> bool {
    disk.list(log).map_or(true, |names| {
        names
            .iter()
            .any(|name| Path::new(name).extension().is_some_and(|end| end == "log"))
    })
}

fn endpoint(
    config: &NodeConfig,
    dir: &DataDir,
    addresses: &AddressBook,
    core: &Arc<Core>,
    seams: &Seams,
) -> Endpoint {
    let identity = peer::Identity {
        cluster: dir.cluster_id(),
        node: config.node_id,
        disk: dir.disk_id(),
        boot: dir.boot(),
        http: config.advertise_http.clone(),
        secret: config.cluster_secret.as_deref().map(Secret::new),
    };
    let admission = Arc::clone(core) as Arc<dyn peer::Admission>;
    let mut endpoint = Endpoint::new(identity, addresses.clone(), admission);
    endpoint.connector = Arc::clone(&seams.connector);
    let random = Arc::clone(&seams.random);
    endpoint.nonces = Arc::new(move |nonce| random(nonce));
    endpoint
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn raft_config(timing: Timing, entries_kept: u64) -> Result<Config, StartError> {
    let config = Config {
        cluster_name: "evermind".to_owned(),
        // A heartbeat, which `upkeep` sends, has three quarters of this to be answered: as long as
        // openraft allows. The clock that elections are timed by turns at 13/64 of it, while
        // `elections` has it turn.
        heartbeat_interval: millis(timing.election_min).saturating_sub(1),
        enable_heartbeat: false,
        election_timeout_min: millis(timing.election_min),
        election_timeout_max: millis(timing.election_max),
        // A candidate that cannot win does not raise the term.
        enable_pre_vote: Some(true),
        // A restarted leader must be elected: what it promised as a leader is forgotten.
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        // A leader that hears nobody lets the others elect, now and then: otherwise its heartbeats
        // suppress elections for ever where they arrive and no answer comes back.
        quorum_loss_probe_interval: Some(3 * millis(timing.election_max)),
        max_payload_entries: 2048,
        // Snapshots are made by the size of the log: see `upkeep`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: entries_kept,
        purge_batch_size: entries_kept.clamp(1, 10_000),
        replication_lag_threshold: 1_000_000,
        // Progress is what bounds a snapshot: see `peer::PeerConfig::snapshot_idle`.
        install_snapshot_timeout: 60_000,
        backoff: "50ms 100ms 200ms ...500ms".to_owned(),
        ..Config::default()
    };
    config
        .validate()
        .map_err(|error| StartError::Consensus(error.to_string()))
}

/// Makes the cluster, if this node has never been part of it. Every founding node does the same,
/// which Raft allows: they vote as usual.
///
/// A node without a past first meets enough of the others for a majority: they know if its id
/// belongs to another disk, and refuse it then.
async fn form(core: Arc<Core>, raft: Raft, founders: BTreeSet<NodeId>) {
    match raft.is_initialized().await {
        Ok(false) => {}
        Ok(true) => return,
        Err(error) => return core.stop(format!("consensus stopped: {error}")),
    }
    let others = founders.len() / 2;
    while lock(&core.contacts)
        .keys()
        .filter(|node| founders.contains(node))
        .count()
        < others
    {
        core.met.notified().await;
    }
    #[allow(
        clippy::zero_sized_map_values,
        reason = "openraft's type: members are known by id alone"
    )]
    let members: BTreeMap<_, _> = founders
        .into_iter()
        .map(|node| (node, EmptyNode::default()))
        .collect();
    match raft.initialize(members).await {
        // Not allowed: the others were faster, and this node has their log already.
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
        Err(error) => core.stop(format!("the cluster cannot be made: {error}")),
    }
}
