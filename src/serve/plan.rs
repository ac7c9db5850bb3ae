//! What a node will do, checked before anything is opened.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread::available_parallelism;

use evermind_api::{AdminToken, Origin, hash};
use evermind_lock::command::{KeyHash, NodeId};
use evermind_lock::names::IdentityId;

use super::rate::RateLimit;
use super::settings::{LogFormat, Settings, api_key};
use crate::exit::Failure;
use crate::secret;

const LISTEN: &str = "127.0.0.1:7600";
const PEER_LISTEN: &str = "127.0.0.1:7610";
const GLOBAL_PREFIX: &str = "Evermind";
const SECRET_BYTES_MIN: usize = 16;
/// Whose locks the bootstrap key opens.
pub(crate) const BOOTSTRAP_IDENTITY: &str = "default";
/// openraft tells every heartbeat at info.
const LOG_LEVEL: &str = "info";

/// Settings that make sense together.
pub(crate) struct Plan {
    pub(crate) node_id: NodeId,
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: String,
    pub(crate) peer_listen: String,
    advertise_peer: Option<String>,
    advertise_http: Option<String>,
    pub(crate) initial_cluster: BTreeMap<NodeId, String>,
    pub(crate) cluster_secret: Option<Vec<u8>>,
    pub(crate) global_prefix: String,
    pub(crate) bootstrap_key: Option<(KeyHash, IdentityId)>,
    pub(crate) admin_token: Option<AdminToken>,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) cors_origins: Vec<Origin>,
    pub(crate) worker_threads: usize,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: String,
}

/// Where others reach this node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// `host:port`
    pub(crate) advertise_peer: String,
    /// `http://host:port`
    pub(crate) advertise_http: String,
}

/// Half the processors, one at least, if none were asked for: the log, the checkpoint and the kernel
/// have work too, and each thread more costs a wake-up each time that work passes between two.
fn worker_threads(asked: Option<u16>) -> Result<usize, Failure> {
    match asked {
        Some(asked) if (1..=1024).contains(&asked) => Ok(asked.into()),
        Some(_) => Err(Failure::usage("--worker-threads is 1 to 1024")
            .hint("leave it out for half as many as there are processors")),
        None => Ok((available_parallelism().map_or(1, NonZeroUsize::get) / 2).max(1)),
    }
}

impl Plan {
    pub(crate) fn new(settings: Settings) -> Result<Self, Failure> {
        let node_id = needed(settings.node_id, "--node-id", "--node-id 1")?;
        if node_id == 0 {
            return Err(Failure::usage("--node-id counts from 1").hint("for example --node-id 1"));
        }
        let data_dir = needed(
            settings.data_dir,
            "--data-dir",
            "--data-dir /var/lib/evermind",
        )?;
        let example = "--initial-cluster 1=n1:7610,2=n2:7610,3=n3:7610, the same on every node";
        let initial_cluster = needed(settings.initial_cluster, "--initial-cluster", example)?;
        let initial_cluster = founders(&initial_cluster)?;
        let Some(own) = initial_cluster.get(&node_id) else {
            return Err(Failure::usage(format!(
                "--initial-cluster does not name this node, --node-id {node_id}"
            ))
            .hint("it names every founding node, this one included"));
        };
        if let Some(other) = settings
            .advertise_peer
            .as_ref()
            .filter(|other| *other != own)
        {
            return Err(Failure::usage(format!(
                "--advertise-peer {other} is not what --initial-cluster says of node {node_id}: {own}"
            ))
            .hint("leave --advertise-peer out, or make the two the same on every node"));
        }
        let cluster_secret = secret::read(
            "--cluster-secret",
            settings.cluster_secret,
            settings.cluster_secret_file.as_deref(),
        )?;
        if cluster_secret
            .as_ref()
            .is_some_and(|secret| secret.len() < SECRET_BYTES_MIN)
        {
            return Err(Failure::usage("--cluster-secret takes at least 16 bytes")
                .hint("make one: openssl rand -hex 32 > cluster-secret; the same on every node"));
        }
        let listen = settings.listen.unwrap_or_else(|| LISTEN.to_owned());
        let peer_listen = settings
            .peer_listen
            .unwrap_or_else(|| PEER_LISTEN.to_owned());
        if cluster_secret.is_none() {
            only_loopback("--listen", &listen)?;
            only_loopback("--peer-listen", &peer_listen)?;
        }
        let bootstrap_key = secret::read(
            "--bootstrap-api-key",
            settings.bootstrap_api_key,
            settings.bootstrap_api_key_file.as_deref(),
        )?;
        let bootstrap_key = match bootstrap_key {
            Some(key) => Some((hash(api_key(&key)?.as_bytes()), identity())),
            None => None,
        };
        let admin_token = secret::read(
            "--admin-token",
            settings.admin_token,
            settings.admin_token_file.as_deref(),
        )?;
        Ok(Self {
            node_id,
            data_dir,
            listen,
            peer_listen,
            advertise_peer: Some(own.clone()),
            advertise_http: settings.advertise_http,
            initial_cluster,
            cluster_secret: cluster_secret.map(String::into_bytes),
            global_prefix: prefix(settings.global_prefix)?,
            bootstrap_key,
            admin_token: admin_token.as_deref().map(admin).transpose()?,
            rate_limit: settings.rate_limit,
            cors_origins: settings.cors_origin.unwrap_or_default(),
            worker_threads: worker_threads(settings.worker_threads)?,
            log_format: settings.log_format.unwrap_or_default(),
            log_level: settings.log_level.unwrap_or_else(|| LOG_LEVEL.to_owned()),
        })
    }

    /// Where others reach what is bound to `http` and `peer`.
    pub(crate) fn addresses(
        &self,
        http: SocketAddr,
        peer: SocketAddr,
    ) -> Result<Addresses, Failure> {
        let advertise_peer = self
            .advertise_peer
            .clone()
            .unwrap_or_else(|| peer.to_string());
        let advertise_http = match &self.advertise_http {
            Some(url) => {
                let endpoint: evermind_client::Endpoint = url.parse().map_err(|error| {
                    Failure::usage(format!("--advertise-http: {error}"))
                        .hint("for example --advertise-http http://n1:7600")
                })?;
                endpoint.to_string()
            }
            // Everywhere is no address to go to: the host that peers use is the best guess.
            None if http.ip().is_unspecified() => {
                let host = advertise_peer.rsplit_once(':').map_or("", |(host, _)| host);
                format!("http://{host}:{}", http.port())
            }
            None => format!("http://{http}"),
        };
        Ok(Addresses {
            advertise_peer,
            advertise_http,
        })
    }
}

fn needed<T>(value: Option<T>, flag: &str, example: &str) -> Result<T, Failure> {
    value.ok_or_else(|| {
        Failure::usage(format!("{flag} is missing")).hint(format!(
            "for example {example}; `evermind dev` needs no flags and starts a cluster here"
        ))
    })
}

fn founders(text: &str) -> Result<BTreeMap<NodeId, String>, Failure> {
    let refuse = |why: String| {
        Failure::usage(format!("--initial-cluster: {why}"))
            .hint("it is written 1=host:port,2=host:port,3=host:port")
    };
    let mut founders = BTreeMap::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (id, address) = part
            .split_once('=')
            .ok_or_else(|| refuse(format!("{part:?} has no '='")))?;
        let id: NodeId = id
            .trim()
            .parse()
            .ok()
            .filter(|id| *id > 0)
            .ok_or_else(|| refuse(format!("{id:?} is not a node's number, from 1")))?;
        let address = address.trim();
        let port = address
            .rsplit_once(':')
            .filter(|(host, _)| !host.is_empty());
        if port
            .and_then(|(_, port)| port.parse::<u16>().ok())
            .is_none_or(|port| port == 0)
        {
            return Err(refuse(format!("{address:?} is not host:port")));
        }
        if founders.values().any(|other| other == address) {
            return Err(refuse(format!("two nodes have the address {address}")));
        }
        if founders.insert(id, address.to_owned()).is_some() {
            return Err(refuse(format!("node {id} is named twice")));
        }
    }
    if founders.is_empty() {
        return Err(refuse("it names no node".to_owned()));
    }
    Ok(founders)
}

fn only_loopback(flag: &str, address: &str) -> Result<(), Failure> {
    let mut addresses = address.to_socket_addrs().map_err(|error| {
        Failure::usage(format!("{flag} {address}: {error}")).hint(format!(
            "{flag} takes host:port, for example {flag} 127.0.0.1:7600"
        ))
    })?;
    if addresses.all(|address| address.ip().is_loopback()) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{flag} {address} can be reached from outside this machine, and there is no cluster secret"
    ))
    .hint("give every node the same --cluster-secret-file; make one: openssl rand -hex 32 > cluster-secret"))
}

fn prefix(text: Option<String>) -> Result<String, Failure> {
    let text = text.unwrap_or_else(|| GLOBAL_PREFIX.to_owned());
    if (1..=64).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(text);
    }
    Err(
        Failure::usage("--global-prefix takes 1 to 64 bytes without control characters")
            .hint("for example --global-prefix Evermind"),
    )
}

fn admin(token: &str) -> Result<AdminToken, Failure> {
    AdminToken::new(token).map_err(|weak| {
        Failure::usage(format!("--admin-token: {weak}"))
            .hint("make one: openssl rand -hex 32 > admin-token; the same on every node")
    })
}

fn identity() -> IdentityId {
    IdentityId::new(BOOTSTRAP_IDENTITY).expect("a constant that is allowed")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
