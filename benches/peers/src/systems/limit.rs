//! The limit: what HTTP, a group commit and two followers cost, without consensus and without locks.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{Setup, System};
use crate::http::EvermindClient;
use crate::limit::API_KEY;
use crate::server::{Server, free_ports, until};

pub(crate) struct Limit {
    servers: Vec<Server>,
    address: String,
}

impl System for Limit {
    type Client = EvermindClient;

    async fn start(setup: &Setup) -> Result<Self> {
        let program: PathBuf = std::env::current_exe().context("finding this program")?;
        let ports = free_ports(3)?;
        let address = |index: usize| format!("127.0.0.1:{}", ports[index]);
        let log = |name: &str| setup.dir.join(name).display().to_string();
        let leader = [
            "limit-leader".to_owned(),
            "--listen".to_owned(),
            address(0),
            "--file".to_owned(),
            log("leader.data"),
            "--followers".to_owned(),
            format!("{},{}", address(1), address(2)),
        ];
        let mut servers = vec![Server::start(&setup.dir, "leader", &program, &leader)?];
        for index in 1..3 {
            let name = format!("follower-{index}");
            let follower = [
                "limit-follower".to_owned(),
                "--listen".to_owned(),
                address(index),
                "--file".to_owned(),
                log(&format!("{name}.data")),
            ];
            servers.push(Server::start(&setup.dir, &name, &program, &follower)?);
        }
        // The leader listens once its followers are there.
        until("the limit", &mut servers, async || {
            EvermindClient::several(1, &address(0), API_KEY).await
        })
        .await?;
        Ok(Self {
            servers,
            address: address(0),
        })
    }

    async fn clients(&mut self, count: usize) -> Result<Vec<EvermindClient>> {
        EvermindClient::several(count, &self.address, API_KEY).await
    }

    fn servers(&self) -> &[Server] {
        &self.servers
    }

    fn leader(&self) -> usize {
        0
    }
}
