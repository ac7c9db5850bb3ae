//! One node of the simulated cluster: the real one, on a simulated machine.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evermind_api::{Access, AdminToken, App, Limits};
use evermind_lock::names::IdentityId;
use evermind_lock::table::Pieces;
use evermind_raft::node::{LogKept, Node, NodeConfig, Seams, Timing};
use evermind_raft::peer::{Connect, PeerStream};
use evermind_storage::log::LogOptions;
use openraft::base::BoxFuture;

use crate::clock::HostClock;
use crate::dice::Dice;
use crate::disk::{DATA_DIR, HostDisk};
use crate::net::{HostId, Net};

/// The nodes.
pub const NODES: [HostId; 3] = [1, 2, 3];
/// Where callers connect.
pub const HTTP_PORT: u16 = 80;
/// Where peers connect.
pub const PEER_PORT: u16 = 70;
/// What callers prove themselves with.
pub const API_KEY: &str = "evermind-simulation-key-0123456789abcdef";
/// What the operator proves itself with.
pub const ADMIN_TOKEN: &str = "evermind-simulation-admin-token-0123456789abcdef";
/// Whose locks they are.
pub const IDENTITY: &str = "sim";

/// How a process ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It did not start.
    NotStarted(String),
    /// It stopped, rather than go on with what it had.
    Stopped(String),
}

/// What is seen of a process from outside.
#[derive(Default)]
pub struct Seen {
    /// Once it has started.
    pub node: Option<Node>,
    /// Once it has ended by itself.
    pub ended: Option<Ended>,
}

/// A process, as the simulator sees it. Clones are the same one.
#[derive(Clone, Default)]
pub struct Process(Arc<Mutex<Seen>>);

impl Process {
    /// What is seen now.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a process runs on.
pub struct Machine {
    /// Which node.
    pub id: HostId,
    /// Its network.
    pub net: Net,
    /// Its disk.
    pub disk: HostDisk,
    /// Its clocks.
    pub clock: HostClock,
    /// Its randomness.
    pub dice: Dice,
    /// How much log it keeps.
    pub log_kept: LogKept,
    /// How much an entry ends of what is over.
    pub pieces: Pieces,
}

struct Dialer {
    from: HostId,
    net: Net,
}

impl Connect for Dialer {
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<PeerStream>> {
        let (from, net) = (self.from, self.net.clone());
        Box::pin(async move {
            let to = address
                .strip_prefix('n')
                .and_then(|rest| rest.split(':').next())
                .and_then(|id| id.parse().ok())
                .ok_or(io::ErrorKind::NotFound)?;
            let stream = net.connect(from, to, PEER_PORT).await?;
            Ok(Box::new(stream) as PeerStream)
        })
    }
}

impl Machine {
    /// What `evermind serve` does, over this machine, until it ends by itself.
    pub async fn run(self, process: Process) {
        let ended = self.serve(&process).await;
        process.seen().ended = Some(ended);
    }

    async fn serve(self, process: &Process) -> Ended {
        let refused = |error: io::Error| Ended::NotStarted(error.to_string());
        let peers = match self.net.listen(self.id, PEER_PORT) {
            Ok(listener) => listener,
            Err(error) => return refused(error),
        };
        let callers = match self.net.listen(self.id, HTTP_PORT) {
            Ok(listener) => listener,
            Err(error) => return refused(error),
        };
        let address = |id: HostId| format!("n{id}:{PEER_PORT}");
        let identity = IdentityId::new(IDENTITY).expect("it is one");
        let config = NodeConfig {
            node_id: self.id,
            data_dir: PathBuf::from(DATA_DIR),
            peer_listener: Box::new(peers),
            advertise_peer: address(self.id),
            advertise_http: format!("http://n{}", self.id),
            initial_cluster: NODES
                .map(|id| (id, address(id)))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
            cluster_secret: Some(b"a secret of the simulation".to_vec()),
            global_prefix: "Evermind".to_owned(),
            bootstrap_key: Some((evermind_api::hash(API_KEY.as_bytes()), identity)),
            log_kept: self.log_kept,
        };
        let random = self.dice.clone();
        let seams = Seams {
            disk: Arc::new(self.disk.now()),
            runner: Arc::new(self.disk.clone()),
            tables: Arc::new(self.disk.tables()),
            log: LogOptions {
                segment_bytes: 64 << 10,
                frame_bytes_max: 16 << 10,
                cache_bytes_max: 32 << 10,
            },
            pieces: self.pieces,
            connector: Arc::new(Dialer {
                from: self.id,
                net: self.net.clone(),
            }),
            clocks: Arc::new(self.clock.clone()),
            random: Arc::new(move |bytes| random.fill(bytes)),
        };
        let node = match Node::start_with(config, seams, Timing::LAN, None).await {
            Ok(node) => node,
            Err(error) => return Ended::NotStarted(error.to_string()),
        };
        process.seen().node = Some(node.clone());
        let access = Access {
            admin: Some(AdminToken::new(ADMIN_TOKEN).expect("long enough")),
            origins: Vec::new(),
        };
        let app = App::new(node.clone(), Limits::default(), access);
        tokio::select! {
            biased;
            why = node.stopped() => Ended::Stopped(why),
            () = evermind_api::serve(callers, app, std::future::pending()) => {
                Ended::Stopped("the HTTP server ended".to_owned())
            }
        }
    }
}
