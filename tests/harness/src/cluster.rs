//! Three real `evermind serve` processes, gone when the story ends.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::client::Client;
use super::http::{Answer, Connection, Request};
use super::ports::Ports;
use super::process::NodeProcess;
use super::until::{until, until_or};

/// Nodes are numbered from 1.
pub const NODES: [u64; 3] = [1, 2, 3];

/// Two cores that also run other tests and compile; a node of its own is ready in well under 1 s.
const READY_WITHIN: Duration = Duration::from_secs(30);
const LEADER_WITHIN: Duration = Duration::from_secs(15);
/// A look at a node which runs is answered at once; one that is stopped must not hold a story up.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// How much of a log a failure shows. The whole is in the file whose path it prints.
const LOG_LINES_SHOWN: usize = 40;

/// A cluster of three. `&self` everywhere: stories kill and start nodes while clients run.
#[derive(Debug)]
pub struct TestCluster {
    test: String,
    pub api_key: String,
    /// What opens the admin routes of every node.
    pub admin_token: String,
    nodes: Vec<NodeProcess>,
    dir: Option<TempDir>,
    ports: Ports,
}

impl TestCluster {
    /// Starts three nodes and returns when each is ready.
    pub fn start() -> Self {
        let cluster = Self::prepare();
        for id in NODES {
            cluster.node(id).start();
        }
        cluster.await_ready();
        cluster
    }

    /// Everything that three nodes need, none of them started.
    pub fn prepare() -> Self {
        Self::prepare_with(&[])
    }

    /// The same, with more arguments for each node.
    pub fn prepare_with(more: &[&str]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("evermind-test-")
            .tempdir()
            .unwrap();
        let ports = Ports::reserve();
        let Secrets {
            api_key,
            admin_token,
        } = Secrets::write(dir.path());
        let members: Vec<String> = NODES
            .iter()
            .map(|id| format!("{id}={}", peer_address(&ports, *id)))
            .collect();
        let nodes = NODES
            .map(|id| {
                let data_dir = dir.path().join(format!("node-{id}"));
                let log = dir.path().join(format!("node-{id}.log"));
                let http = http_address(&ports, id);
                let mut arguments = serve_arguments(&Serve {
                    id,
                    data_dir: &data_dir,
                    http,
                    peer: peer_address(&ports, id),
                    members: &members.join(","),
                    dir: dir.path(),
                });
                arguments.extend(more.iter().map(OsString::from));
                NodeProcess::new(id, http, data_dir, log, arguments)
            })
            .into();
        let test = thread::current().name().unwrap_or("?").to_owned();
        Self {
            test,
            api_key,
            admin_token,
            nodes,
            dir: Some(dir),
            ports,
        }
    }

    pub fn node(&self, id: u64) -> &NodeProcess {
        self.nodes
            .iter()
            .find(|node| node.id == id)
            .expect("nodes are 1, 2 and 3")
    }

    /// A directory that goes with the cluster.
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().expect("kept until drop").path()
    }

    /// A port of the reserved block that no node uses.
    pub fn spare_port(&self, which: u16) -> u16 {
        self.ports.port(6 + which)
    }

    /// Where a node's peers reach it.
    pub fn peer_address(&self, id: u64) -> SocketAddr {
        peer_address(&self.ports, id)
    }

    /// Every node's address, in the order of their ids.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.http).collect()
    }

    /// Every node's address as `--url` takes them.
    pub fn urls(&self) -> String {
        let urls: Vec<_> = self
            .nodes
            .iter()
            .map(|node| format!("http://{}", node.http))
            .collect();
        urls.join(",")
    }

    /// A client of one node.
    pub fn client(&self, id: u64) -> Client {
        Client {
            address: self.node(id).http,
            api_key: self.api_key.clone(),
        }
    }

    /// `kill -9`.
    pub fn kill(&self, id: u64) {
        self.node(id).kill();
    }

    /// SIGSTOP: the process stands still when this returns, its sockets stay open.
    pub fn pause(&self, id: u64) {
        self.node(id).signal(Signal::SIGSTOP);
        // A signal is only on its way when it is sent, and a thread that runs goes on meanwhile.
        until(&format!("node {id} stands still"), LOOK_WITHIN, || {
            self.node(id).is_stopped().then_some(())
        });
    }

    /// SIGCONT.
    pub fn resume(&self, id: u64) {
        self.node(id).signal(Signal::SIGCONT);
    }

    /// SIGTERM, and how it ended, or `None` if it did not within the time.
    pub fn terminate(&self, id: u64, within: Duration) -> Option<ExitStatus> {
        self.node(id).signal(Signal::SIGTERM);
        self.node(id).exit(within)
    }

    /// Starts a node that is down, on the data it left, and waits until it is ready.
    pub fn restart(&self, id: u64) {
        self.node(id).start();
        self.await_node_ready(id);
    }

    /// Waits until every running node is ready.
    pub fn await_ready(&self) {
        for id in self.running() {
            self.await_node_ready(id);
        }
    }

    fn await_node_ready(&self, id: u64) {
        until(&format!("node {id} is ready"), READY_WITHIN, || {
            assert!(
                self.node(id).is_running(),
                "node {id} ended while it started"
            );
            self.look(id, "/readyz")
                .filter(|answer| answer.status == 200)
        });
    }

    pub fn running(&self) -> Vec<u64> {
        self.nodes
            .iter()
            .filter(|node| node.is_running())
            .map(|node| node.id)
            .collect()
    }

    /// The leader, as it says of itself and a majority agrees.
    pub fn leader(&self) -> u64 {
        until("a majority names one leader", LEADER_WITHIN, || {
            self.leader_now(&self.running())
        })
    }

    /// The leader, asked of these nodes only: others may be stopped.
    pub fn leader_among(&self, ids: &[u64]) -> u64 {
        until("two nodes name one leader", LEADER_WITHIN, || {
            self.leader_now(ids)
        })
    }

    fn leader_now(&self, ids: &[u64]) -> Option<u64> {
        let views: Vec<Value> = ids.iter().filter_map(|id| self.status(*id)).collect();
        let head = views.iter().find(|view| view["role"] == "leader")?;
        let agree = views
            .iter()
            .filter(|view| view["leader"] == head["id"] && view["term"] == head["term"])
            .count();
        if agree >= 2 {
            head["id"].as_u64()
        } else {
            None
        }
    }

    /// A node that does not lead.
    pub fn followers(&self) -> Vec<u64> {
        let leader = self.leader();
        self.running()
            .into_iter()
            .filter(|id| *id != leader)
            .collect()
    }

    /// What a node says of its cluster, if it says anything.
    pub fn status(&self, id: u64) -> Option<Value> {
        self.look(id, "/v1/cluster")
            .filter(|answer| answer.status == 200)
            .map(|a| a.json())
    }

    fn look(&self, id: u64, path: &str) -> Option<Answer> {
        let mut connection = Connection::open(self.node(id).http).ok()?;
        connection
            .call(&Request::get(path).bearer(&self.api_key), LOOK_WITHIN)
            .ok()
    }

    /// Waits until every member's disk and address are in the replicated state.
    pub fn await_members_recorded(&self) {
        until(
            "each node knows where every member is",
            LEADER_WITHIN,
            || {
                self.running()
                    .iter()
                    .all(|id| {
                        self.status(*id).is_some_and(|view| {
                            view["members"].as_array().is_some_and(|members| {
                                members.len() == 3
                                    && members
                                        .iter()
                                        .all(|m| m["http"].as_str().is_some_and(|h| !h.is_empty()))
                            })
                        })
                    })
                    .then_some(())
            },
        );
    }

    /// Waits until a log says something. Logs are for people: this is for what they must be told.
    pub fn log_says(&self, id: u64, what: &str, within: Duration) -> bool {
        let found = || {
            self.node(id)
                .log_text()
                .to_lowercase()
                .contains(what)
                .then_some(())
        };
        until_or(within, found).is_some()
    }

    fn report(&self, dir: &Path) {
        for node in &self.nodes {
            let text = node.log_text();
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
            eprintln!(
                "--- the end of {} ({} lines)",
                node.log.display(),
                lines.len()
            );
            for line in &lines[from..] {
                eprintln!("{line}");
            }
        }
        eprintln!("--- logs and data are kept in {}", dir.display());
        eprintln!("--- again: cargo nextest run -p evermind {}", self.test);
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        for node in &self.nodes {
            node.kill();
        }
        if thread::panicking() {
            let dir = self.dir.take().expect("kept until drop").keep();
            self.report(&dir);
        }
    }
}

/// What opens a test cluster.
#[derive(Debug)]
pub struct Secrets {
    pub api_key: String,
    pub admin_token: String,
}

impl Secrets {
    /// Makes them and writes them, and the cluster's secret, where [`serve_arguments`] look.
    pub fn write(dir: &Path) -> Self {
        let api_key = format!("evk_{}", random_hex());
        let admin_token = random_hex();
        fs::write(dir.join("api-key"), format!("{api_key}\n")).unwrap();
        fs::write(dir.join("admin-token"), format!("{admin_token}\n")).unwrap();
        fs::write(
            dir.join("cluster-secret"),
            "a secret of this test cluster only\n",
        )
        .unwrap();
        Self {
            api_key,
            admin_token,
        }
    }
}

/// Where a node of a test cluster lives.
#[derive(Debug)]
pub struct Serve<'a> {
    pub id: u64,
    pub data_dir: &'a Path,
    pub http: SocketAddr,
    pub peer: SocketAddr,
    /// The value of `--initial-cluster`.
    pub members: &'a str,
    /// Where the secrets lie.
    pub dir: &'a Path,
}

/// What `evermind` is called with for it.
pub fn serve_arguments(serve: &Serve<'_>) -> Vec<OsString> {
    let path = |p: PathBuf| p.into_os_string();
    let mut arguments: Vec<OsString> = vec!["serve".into()];
    for (flag, value) in [
        ("--node-id", serve.id.to_string().into()),
        ("--data-dir", serve.data_dir.into()),
        ("--listen", serve.http.to_string().into()),
        ("--advertise-http", format!("http://{}", serve.http).into()),
        ("--peer-listen", serve.peer.to_string().into()),
        ("--advertise-peer", serve.peer.to_string().into()),
        ("--initial-cluster", serve.members.into()),
        (
            "--cluster-secret-file",
            path(serve.dir.join("cluster-secret")),
        ),
        ("--bootstrap-api-key-file", path(serve.dir.join("api-key"))),
        ("--admin-token-file", path(serve.dir.join("admin-token"))),
    ] {
        arguments.extend([flag.into(), value]);
    }
    arguments
}

fn http_address(ports: &Ports, id: u64) -> SocketAddr {
    let offset = u16::try_from(id).expect("1 to 3") - 1;
    (Ipv4Addr::LOCALHOST, ports.port(offset)).into()
}

fn peer_address(ports: &Ports, id: u64) -> SocketAddr {
    let offset = u16::try_from(id).expect("1 to 3") + 2;
    (Ipv4Addr::LOCALHOST, ports.port(offset)).into()
}

/// 256 random bits.
fn random_hex() -> String {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits).expect("the system has randomness");
    bits.iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
