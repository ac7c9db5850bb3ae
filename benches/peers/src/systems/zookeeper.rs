//! `ZooKeeper`: an ephemeral node is created and deleted.

use std::fs;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zookeeper_client::{Acls, CreateMode, CreateOptions};

use super::{CONNECTIONS_MAX, Kind, Setup, System};
use crate::load::{Client, Turn};
use crate::server::{Server, free_ports, until};

/// It names the jars that it needs, all of them in Debian's packages.
pub(crate) const JAR: &str = "/usr/share/java/zookeeper.jar";
const JAVA: &str = "/usr/bin/java";
const EPHEMERAL: CreateOptions<'static> = CreateMode::Ephemeral.with_acls(Acls::anyone_all());

pub(crate) struct Zookeeper {
    servers: Vec<Server>,
    /// Each server's client address, as `host:port`.
    addresses: Vec<String>,
    leader: usize,
}

impl System for Zookeeper {
    type Client = ZookeeperClient;

    async fn start(setup: &Setup) -> Result<Self> {
        let ports = free_ports(9)?;
        let mut servers = Vec::new();
        for index in 0..3 {
            let id = index + 1;
            let dir = setup.server_dir(&format!("zookeeper-{id}"))?;
            let write = |name: &str, text: String| {
                let path = dir.join(name);
                fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
            };
            write("myid", id.to_string())?;
            write("zoo.cfg", configuration(&dir, &ports, index))?;
            let force_sync = if setup.kind == Kind::ZookeeperNosync {
                "no"
            } else {
                "yes"
            };
            let arguments = [
                "-cp",
                // Its own directory, where no logging is configured: warnings go to the log.
                &format!("{}:{JAR}", dir.display()),
                &format!("-Dzookeeper.forceSync={force_sync}"),
                "org.apache.zookeeper.server.quorum.QuorumPeerMain",
                &dir.join("zoo.cfg").display().to_string(),
            ]
            .map(str::to_owned);
            let name = format!("zookeeper-{id}");
            servers.push(Server::start(
                &setup.dir,
                &name,
                Path::new(JAVA),
                &arguments,
            )?);
        }
        let mut zookeeper = Self {
            servers,
            addresses: (0..3)
                .map(|index| format!("127.0.0.1:{}", ports[index]))
                .collect(),
            leader: 0,
        };
        zookeeper.find_leader().await?;
        Ok(zookeeper)
    }

    async fn clients(&mut self, count: usize) -> Result<Vec<ZookeeperClient>> {
        self.find_leader().await?;
        let mut sessions = Vec::new();
        for _ in 0..count.min(CONNECTIONS_MAX) {
            let session = zookeeper_client::Client::connect(&self.addresses[self.leader]).await;
            sessions.push(Rc::new(session.context("connecting to ZooKeeper")?));
        }
        let sessions = sessions.iter().cycle().take(count).cloned();
        let client = |session| ZookeeperClient {
            session,
            path: String::new(),
        };
        Ok(sessions.map(client).collect())
    }

    fn servers(&self) -> &[Server] {
        &self.servers
    }

    fn leader(&self) -> usize {
        self.leader
    }
}

impl Zookeeper {
    /// Which server says that it leads, with all three in the quorum.
    async fn find_leader(&mut self) -> Result<()> {
        let addresses = &self.addresses;
        let found = until("ZooKeeper's leader", &mut self.servers, async || {
            let mut modes = Vec::new();
            for address in addresses {
                modes.push(mode(address).await?);
            }
            let leader = modes.iter().position(|mode| mode == "leader");
            let serving = modes.iter().filter(|mode| *mode == "follower").count();
            leader
                .filter(|_| serving == 2)
                .with_context(|| format!("the servers are {modes:?}"))
        });
        self.leader = found.await?;
        Ok(())
    }
}

/// What `srvr` says of a server: `leader`, `follower`, or nothing as long as it serves nobody.
async fn mode(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await.context("connecting")?;
    stream.write_all(b"srvr").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let mode = answer.lines().find_map(|line| line.strip_prefix("Mode: "));
    Ok(mode.unwrap_or_default().to_owned())
}

/// As Debian ships it, with three servers, and what a benchmark from one address needs.
fn configuration(dir: &Path, ports: &[u16], index: usize) -> String {
    let server = |server: usize| {
        let (id, quorum, election) = (server + 1, ports[3 + server], ports[6 + server]);
        format!("server.{id}=127.0.0.1:{quorum}:{election}\n")
    };
    let servers: String = (0..3).map(server).collect();
    format!(
        "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={}\n\
         clientPort={}\nclientPortAddress=127.0.0.1\n\
         maxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=srvr\n{servers}",
        dir.display(),
        ports[index]
    )
}

pub(crate) struct ZookeeperClient {
    session: Rc<zookeeper_client::Client>,
    path: String,
}

impl Client for ZookeeperClient {
    async fn acquire(&mut self, turn: &Turn) -> Result<()> {
        self.path.clear();
        self.path.push('/');
        self.path.push_str(&turn.key);
        let owner = turn.owner.as_bytes();
        self.session.create(&self.path, owner, &EPHEMERAL).await?;
        Ok(())
    }

    async fn release(&mut self, _: &Turn) -> Result<()> {
        self.session.delete(&self.path, None).await?;
        Ok(())
    }
}
