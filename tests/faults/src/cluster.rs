//! Three real nodes for one run of one row, with what the row puts under and around them.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use evermind_harness::client::Client;
use evermind_harness::cluster::{NODES, Secrets, Serve, serve_arguments};
use evermind_harness::http::{Answer, Connection, Request};
use evermind_harness::ports::Ports;
use evermind_harness::process::{EVERMIND, NodeProcess, stripped};
use evermind_harness::until::until;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::image::Images;
use crate::lan::Lan;
use crate::setup::{Clocks, RATES, Setup};

const READY_WITHIN: Duration = Duration::from_secs(30);
const LEADER_WITHIN: Duration = Duration::from_secs(20);
/// A look at a node which runs is answered at once; one that is stopped must not hold a row up.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// A cluster of three. Fields are dropped in order: processes before what they stand on.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) api_key: String,
    pub(crate) admin_token: String,
    nodes: Vec<NodeProcess>,
    /// The network that joins the nodes, where the row plays with it.
    pub(crate) lan: Option<Lan>,
    /// The disks that the nodes write to, where the row plays with them.
    pub(crate) images: Option<Images>,
    /// Where the nodes' peers connect, by id.
    peers: Vec<SocketAddr>,
    variables: Vec<(String, OsString)>,
    dir: PathBuf,
    _ports: Ports,
}

/// What a node says of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) leads: bool,
    pub(crate) leader: Option<u64>,
    pub(crate) term: u64,
    pub(crate) applied: u64,
}

impl Cluster {
    /// Everything that three nodes need, none of them started. `dir` is empty.
    pub(crate) fn prepare(setup: &Setup, dir: &Path) -> Self {
        let secrets = Secrets::write(dir);
        if setup.clocks == Clocks::Rates {
            for (id, rate) in RATES {
                let says = format!("+0 x{rate}\n");
                std::fs::write(dir.join(format!("clock-{id}")), says).expect("a file for a clock");
            }
        }
        let ports = Ports::reserve();
        let lan = setup.network.then(|| Lan::make(ports.block()));
        let images = setup.image_mib.map(|mib| Images::make(dir, mib));
        let places = NODES.map(|id| match &lan {
            Some(lan) => (lan.http(id), lan.peer(id)),
            None => (loopback(&ports, id - 1), loopback(&ports, id + 2)),
        });
        let members: Vec<String> = NODES
            .iter()
            .zip(&places)
            .map(|(id, (_, peer))| format!("{id}={peer}"))
            .collect();
        let nodes = NODES
            .iter()
            .zip(places)
            .map(|(id, (http, peer))| {
                let node_dir = dir.join(format!("node-{id}"));
                std::fs::create_dir_all(&node_dir).expect("a directory for a node");
                let data_dir = node_dir.join("data");
                let mut arguments = serve_arguments(&Serve {
                    id: *id,
                    data_dir: &data_dir,
                    http,
                    peer,
                    members: &members.join(","),
                    dir,
                });
                if let Some(bytes) = setup.log_bytes_kept {
                    arguments.extend(["--log-bytes-kept".into(), bytes.to_string().into()]);
                }
                let log = dir.join(format!("node-{id}.stderr"));
                NodeProcess::new(*id, http, data_dir, log, arguments)
            })
            .collect();
        Self {
            api_key: secrets.api_key,
            admin_token: secrets.admin_token,
            nodes,
            lan,
            images,
            peers: places.iter().map(|(_, peer)| *peer).collect(),
            variables: setup.variables(dir),
            dir: dir.to_owned(),
            _ports: ports,
        }
    }

    /// Starts every node and waits until each is ready.
    pub(crate) fn start(&self) {
        for id in NODES {
            self.launch(id);
        }
        self.await_ready();
    }

    /// Starts a node that is down, on the data it left, and does not wait for it.
    pub(crate) fn launch(&self, id: u64) {
        let mut command = match &self.lan {
            Some(lan) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &lan.namespace(id)]);
                command.arg(&*EVERMIND);
                command
            }
            None => Command::new(&*EVERMIND),
        };
        for (name, value) in &self.variables {
            let value = value.to_string_lossy().replace("{node}", &id.to_string());
            command.env(name, value);
        }
        self.node(id).start_as(stripped(command));
    }

    /// Starts a node that is down and waits until it is ready.
    pub(crate) fn restart(&self, id: u64) {
        self.launch(id);
        self.await_node_ready(id);
    }

    pub(crate) fn node(&self, id: u64) -> &NodeProcess {
        let found = self.nodes.iter().find(|node| node.id == id);
        found.expect("nodes are 1, 2 and 3")
    }

    /// The directory of the run.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.http).collect()
    }

    /// Where a node's peers connect.
    pub(crate) fn peer(&self, id: u64) -> SocketAddr {
        self.peers[usize::try_from(id - 1).expect("nodes are 1, 2 and 3")]
    }

    pub(crate) fn client(&self, id: u64) -> Client {
        Client {
            address: self.node(id).http,
            api_key: self.api_key.clone(),
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(&self, id: u64) {
        self.node(id).kill();
    }

    /// SIGSTOP: the process stands still when this returns.
    pub(crate) fn pause(&self, id: u64) {
        self.node(id).signal(Signal::SIGSTOP);
        until(&format!("node {id} stands still"), LOOK_WITHIN, || {
            self.node(id).is_stopped().then_some(())
        });
    }

    /// SIGCONT.
    pub(crate) fn resume(&self, id: u64) {
        self.node(id).signal(Signal::SIGCONT);
    }

    /// SIGTERM, and how it ended, or `None` if it did not within the time.
    pub(crate) fn terminate(&self, id: u64, within: Duration) -> Option<ExitStatus> {
        self.node(id).signal(Signal::SIGTERM);
        self.node(id).exit(within)
    }

    pub(crate) fn running(&self) -> Vec<u64> {
        let running = self.nodes.iter().filter(|node| node.is_running());
        running.map(|node| node.id).collect()
    }

    /// Waits until every running node is ready.
    pub(crate) fn await_ready(&self) {
        for id in self.running() {
            self.await_node_ready(id);
        }
    }

    pub(crate) fn await_node_ready(&self, id: u64) {
        until(&format!("node {id} is ready"), READY_WITHIN, || {
            assert!(
                self.node(id).is_running(),
                "node {id} ended while it started: {}",
                self.last_words(id)
            );
            let answer = self.look(id, "/readyz");
            answer.filter(|answer| answer.status == 200)
        });
    }

    /// The leader, as it says of itself and a majority of `ids` agrees.
    pub(crate) fn leader_among(&self, ids: &[u64]) -> u64 {
        until("two nodes name one leader", LEADER_WITHIN, || {
            self.leader_now(ids)
        })
    }

    pub(crate) fn leader(&self) -> u64 {
        self.leader_among(&NODES)
    }

    fn leader_now(&self, ids: &[u64]) -> Option<u64> {
        let views: Vec<(u64, View)> = ids
            .iter()
            .filter_map(|id| Some((*id, self.view(*id)?)))
            .collect();
        let (head, of) = views.iter().find(|(_, view)| view.leads)?;
        let agree = views
            .iter()
            .filter(|(_, view)| view.leader == Some(*head) && view.term == of.term);
        (agree.count() >= 2).then_some(*head)
    }

    /// Nodes that do not lead.
    pub(crate) fn followers(&self) -> Vec<u64> {
        let leader = self.leader();
        others(leader)
    }

    /// The highest term that any node knows.
    pub(crate) fn term(&self) -> u64 {
        let views = NODES.iter().filter_map(|id| self.view(*id));
        views.map(|view| view.term).max().unwrap_or_default()
    }

    /// What a node says, if it says anything.
    pub(crate) fn view(&self, id: u64) -> Option<View> {
        let answer = self.look(id, "/v1/cluster")?;
        if answer.status != 200 {
            return None;
        }
        let body: Value = answer.json();
        Some(View {
            leads: body["role"] == "leader",
            leader: body["leader"].as_u64(),
            term: body["term"].as_u64()?,
            applied: body["appliedIndex"].as_u64()?,
        })
    }

    fn look(&self, id: u64, path: &str) -> Option<Answer> {
        let mut connection = Connection::open(self.node(id).http).ok()?;
        let request = Request::get(path).bearer(&self.api_key);
        connection.call(&request, LOOK_WITHIN).ok()
    }

    /// Whether a node's log says something.
    pub(crate) fn says(&self, id: u64, what: &str) -> bool {
        self.node(id).log_text().contains(what)
    }

    /// The end of a node's log, for a failure's text.
    pub(crate) fn last_words(&self, id: u64) -> String {
        let text = self.node(id).log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(3)..].join(" | ")
    }
}

/// The two nodes that are not this one.
pub(crate) fn others(id: u64) -> Vec<u64> {
    NODES.into_iter().filter(|other| *other != id).collect()
}

fn loopback(ports: &Ports, offset: u64) -> SocketAddr {
    let offset = u16::try_from(offset).expect("small");
    (Ipv4Addr::LOCALHOST, ports.port(offset)).into()
}
