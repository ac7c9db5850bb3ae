//! Evermind: three `evermind serve` with their defaults.

use std::fs;

use anyhow::{Context as _, Result};

use super::{Setup, System};
use crate::http::EvermindClient;
use crate::server::{Server, free_ports, until};

/// Opens a cluster that lives for seconds on loopback.
pub(crate) const API_KEY: &str =
    "evk_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub(crate) struct Evermind {
    servers: Vec<Server>,
    /// Each server's HTTP address, as `host:port`.
    addresses: Vec<String>,
    asked: evermind_client::Client,
    leader: usize,
}

impl Evermind {
    /// Every node, comma-separated.
    pub(crate) fn urls(&self) -> String {
        let urls = self.asked.endpoints().iter().map(ToString::to_string);
        urls.collect::<Vec<_>>().join(",")
    }

    /// Where the leader answers, as `host:port`.
    pub(crate) fn leader_address(&self) -> &str {
        &self.addresses[self.leader]
    }

    /// The term, and the newest entry that the leader has applied.
    pub(crate) async fn progress(&self) -> Result<(u64, u64)> {
        let leader = &self.asked.endpoints()[self.leader];
        let status = self.asked.cluster(leader).await?.value;
        Ok((status.term, status.applied_index))
    }

    /// kill -9 of one server.
    pub(crate) fn kill(&mut self, server: usize) {
        self.servers[server].kill();
    }

    /// Which node says that it leads, as the two others do.
    pub(crate) async fn find_leader(&mut self) -> Result<()> {
        let asked = &self.asked;
        let found = until("Evermind's leader", &mut self.servers, async || {
            let mut leaders = Vec::new();
            for endpoint in asked.endpoints() {
                leaders.push(asked.cluster(endpoint).await?.value.leader);
            }
            let agreed = leaders.iter().all(|leader| *leader == leaders[0]);
            let leader = leaders[0].filter(|_| agreed);
            leader.with_context(|| format!("the nodes name {leaders:?}"))
        });
        self.leader = usize::try_from(found.await? - 1)?;
        Ok(())
    }
}

impl System for Evermind {
    type Client = EvermindClient;

    async fn start(setup: &Setup) -> Result<Self> {
        let ports = free_ports(6)?;
        let address = |index: usize| format!("127.0.0.1:{}", ports[index]);
        let key_file = setup.dir.join("api-key");
        fs::write(&key_file, API_KEY).context("writing the API key")?;
        let members: Vec<String> = (1..=3)
            .map(|id| format!("{id}={}", address(2 + id)))
            .collect();
        let mut servers = Vec::new();
        for id in 1..=3 {
            let name = format!("node-{id}");
            let arguments = [
                "serve",
                "--node-id",
                &id.to_string(),
                "--data-dir",
                &setup.dir.join(&name).display().to_string(),
                "--listen",
                &address(id - 1),
                "--peer-listen",
                &address(2 + id),
                "--initial-cluster",
                &members.join(","),
                "--bootstrap-api-key-file",
                &key_file.display().to_string(),
            ]
            .map(str::to_owned);
            let server = Server::start(&setup.dir, &name, &setup.evermind, &arguments);
            servers.push(server?);
        }
        let addresses: Vec<String> = (0..3).map(address).collect();
        let urls = addresses.iter().map(|address| format!("http://{address}"));
        let asked = evermind_client::Client::new(urls, API_KEY)?;
        until("Evermind", &mut servers, async || {
            for endpoint in asked.endpoints() {
                let ready = asked.is_ready(endpoint).await?;
                anyhow::ensure!(ready, "a node is not ready");
            }
            Ok(())
        })
        .await?;
        Ok(Self {
            servers,
            addresses,
            asked,
            leader: 0,
        })
    }

    async fn clients(&mut self, count: usize) -> Result<Vec<EvermindClient>> {
        self.find_leader().await?;
        EvermindClient::several(count, &self.addresses[self.leader], API_KEY).await
    }

    fn servers(&self) -> &[Server] {
        &self.servers
    }

    fn leader(&self) -> usize {
        self.leader
    }
}
