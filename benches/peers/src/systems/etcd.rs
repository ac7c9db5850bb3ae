//! etcd: the least that makes a lock. A lease is granted before; each acquire is one transaction
//! that creates the key under the lease if it is absent, each release one delete.

mod gateway;
mod messages;

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use http::uri::PathAndQuery;
use prost::Message;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::{CONNECTIONS_MAX, Kind, Setup, System};
use crate::load::{Client, Turn};
use crate::server::{Server, free_ports, until};
use gateway::GatewayClient;
use messages::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse,
    PutRequest, RequestOp, StatusRequest, StatusResponse, TxnRequest, TxnResponse,
};

pub(crate) const PROGRAM: &str = "/usr/bin/etcd";
/// Longer than any run: nothing renews it.
const LEASE_SECONDS: i64 = 3600;

pub(crate) struct Etcd {
    servers: Vec<Server>,
    /// Each server's client address, as `host:port`.
    addresses: Vec<String>,
    leader: usize,
    /// What every key is attached to.
    lease: i64,
    is_gateway: bool,
}

impl System for Etcd {
    type Client = EtcdClient;

    async fn start(setup: &Setup) -> Result<Self> {
        let ports = free_ports(6)?;
        let url = |index: usize| format!("http://127.0.0.1:{}", ports[index]);
        let members: Vec<String> = (0..3)
            .map(|index| format!("etcd-{index}={}", url(3 + index)))
            .collect();
        let mut servers = Vec::new();
        for index in 0..3 {
            let name = format!("etcd-{index}");
            let arguments = [
                "--name",
                &name,
                "--data-dir",
                &setup.dir.join(&name).display().to_string(),
                "--listen-client-urls",
                &url(index),
                "--advertise-client-urls",
                &url(index),
                "--listen-peer-urls",
                &url(3 + index),
                "--initial-advertise-peer-urls",
                &url(3 + index),
                "--initial-cluster",
                &members.join(","),
                "--initial-cluster-state",
                "new",
                "--logger",
                "zap",
                "--log-level",
                "warn",
            ]
            .map(str::to_owned);
            servers.push(Server::start(
                &setup.dir,
                &name,
                Path::new(PROGRAM),
                &arguments,
            )?);
        }
        let mut etcd = Self {
            servers,
            addresses: (0..3)
                .map(|index| format!("127.0.0.1:{}", ports[index]))
                .collect(),
            leader: 0,
            lease: 0,
            is_gateway: setup.kind == Kind::EtcdHttp,
        };
        etcd.find_leader().await?;
        let mut leader = Wire::connect(&etcd.addresses[etcd.leader]).await?;
        let lease = LeaseGrantRequest { ttl: LEASE_SECONDS };
        let lease: LeaseGrantResponse =
            leader.call("/etcdserverpb.Lease/LeaseGrant", lease).await?;
        etcd.lease = lease.id;
        Ok(etcd)
    }

    async fn clients(&mut self, count: usize) -> Result<Vec<EtcdClient>> {
        self.find_leader().await?;
        let address = &self.addresses[self.leader];
        let mut clients = Vec::with_capacity(count);
        if self.is_gateway {
            for _ in 0..count {
                let client = GatewayClient::connect(address, self.lease).await?;
                clients.push(EtcdClient::Gateway(client));
            }
            return Ok(clients);
        }
        let mut wires = Vec::new();
        for _ in 0..count.min(CONNECTIONS_MAX) {
            wires.push(Wire::connect(address).await?);
        }
        let wires = wires.iter().cycle().take(count).cloned();
        clients.extend(wires.map(|wire| EtcdClient::Grpc(wire, self.lease)));
        Ok(clients)
    }

    fn servers(&self) -> &[Server] {
        &self.servers
    }

    fn leader(&self) -> usize {
        self.leader
    }
}

impl Etcd {
    /// Which server says that it leads, as the others do.
    async fn find_leader(&mut self) -> Result<()> {
        let addresses = &self.addresses;
        let found = until("etcd's leader", &mut self.servers, async || {
            let mut seen = Vec::new();
            for address in addresses {
                let mut wire = Wire::connect(address).await?;
                let path = "/etcdserverpb.Maintenance/Status";
                let status: StatusResponse = wire.call(path, StatusRequest {}).await?;
                let member = status.header.context("an answer without a header")?;
                seen.push((member.member_id, status.leader));
            }
            let leader = seen[0].1;
            ensure!(
                seen.iter().all(|(_, other)| *other == leader),
                "the servers name {seen:?}"
            );
            let index = seen.iter().position(|(member, _)| *member == leader);
            index.context("no server leads")
        });
        self.leader = found.await?;
        Ok(())
    }
}

/// One of etcd's two ways in.
pub(crate) enum EtcdClient {
    /// A connection that may be shared, and the lease.
    Grpc(Wire, i64),
    Gateway(GatewayClient),
}

impl Client for EtcdClient {
    async fn acquire(&mut self, turn: &Turn) -> Result<()> {
        let (wire, lease) = match self {
            Self::Grpc(wire, lease) => (wire, *lease),
            Self::Gateway(client) => return client.acquire(turn).await,
        };
        let key = turn.key.as_bytes().to_vec();
        let put = PutRequest {
            key: key.clone(),
            value: turn.owner.as_bytes().to_vec(),
            lease,
        };
        let request = TxnRequest {
            compare: vec![Compare::absent(key)],
            success: vec![RequestOp { put: Some(put) }],
        };
        let answer: TxnResponse = wire.call("/etcdserverpb.KV/Txn", request).await?;
        ensure!(answer.succeeded, "the key is there already");
        Ok(())
    }

    async fn release(&mut self, turn: &Turn) -> Result<()> {
        let wire = match self {
            Self::Grpc(wire, _) => wire,
            Self::Gateway(client) => return client.release(turn).await,
        };
        let key = turn.key.as_bytes().to_vec();
        let path = "/etcdserverpb.KV/DeleteRange";
        let answer: DeleteRangeResponse = wire.call(path, DeleteRangeRequest { key }).await?;
        ensure!(answer.deleted == 1, "the key is gone already");
        Ok(())
    }
}

/// A gRPC connection; its clones share it.
#[derive(Clone)]
pub(crate) struct Wire(Grpc<Channel>);

impl Wire {
    async fn connect(address: &str) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        let channel = endpoint.connect().await;
        let channel = channel.with_context(|| format!("connecting to {address}"))?;
        Ok(Self(Grpc::new(channel)))
    }

    async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.0.ready().await?;
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::default();
        match self.0.unary(Request::new(request), path, codec).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => bail!("{:?}: {}", status.code(), status.message()),
        }
    }
}
