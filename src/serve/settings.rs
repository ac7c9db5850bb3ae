//! The settings of a node, as one layer (flags, variables or file) gives them.

use std::path::PathBuf;

use evermind_api::{Origin, SecretKind};
use serde::Deserialize;

use super::rate::RateLimit;
use crate::exit::Failure;

/// What a flag, a variable or a line of the file may say. Everything is optional here: what must
/// be there is known only when the layers lie on each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Settings {
    /// This node's number in the cluster, from 1; never used again for another disk
    #[arg(long, value_name = "N")]
    pub(crate) node_id: Option<u64>,
    /// Where this node keeps its log and state; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where to serve HTTP [default: 127.0.0.1:7600]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// Where to serve the other nodes [default: 127.0.0.1:7610]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) peer_listen: Option<String>,
    /// Under which address the other nodes reach --peer-listen [default: as in --initial-cluster]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise_peer: Option<String>,
    /// Under which address clients reach --listen [default: from --listen]
    #[arg(long, value_name = "URL")]
    pub(crate) advertise_http: Option<String>,
    /// Every founding node, this one included, the same on all: 1=host:port,2=host:port,3=host:port
    #[arg(long, value_name = "ID=HOST:PORT,…")]
    pub(crate) initial_cluster: Option<String>,
    /// What the nodes prove to each other that they know, at least 16 bytes; better in a file
    #[arg(long, value_name = "SECRET")]
    pub(crate) cluster_secret: Option<String>,
    /// A file with the cluster secret
    #[arg(long, value_name = "FILE")]
    pub(crate) cluster_secret_file: Option<PathBuf>,
    /// Shown before each lock's name; settled when the cluster is made [default: Evermind]
    #[arg(long, value_name = "TEXT")]
    pub(crate) global_prefix: Option<String>,
    /// The first API key, at least 16 visible ASCII characters; better in a file
    #[arg(long, value_name = "KEY")]
    pub(crate) bootstrap_api_key: Option<String>,
    /// A file with the first API key
    #[arg(long, value_name = "FILE")]
    pub(crate) bootstrap_api_key_file: Option<PathBuf>,
    /// What opens the admin routes, where licences are issued: at least 32 visible ASCII characters,
    /// the same on every node; better in a file [default: the admin routes are off]
    #[arg(long, value_name = "TOKEN")]
    pub(crate) admin_token: Option<String>,
    /// A file with the admin token
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_token_file: Option<PathBuf>,
    /// How many requests each licence may send to this node, as in 100/s; extend and release are
    /// counted apart, ten times as many [default: no limit]
    #[arg(long, value_name = "N/s")]
    pub(crate) rate_limit: Option<RateLimit>,
    /// Whose pages may call from browsers; * for everyone's; may be given several times [default: nobody's]
    #[arg(long, value_name = "SCHEME://HOST[:PORT],…", value_delimiter = ',')]
    pub(crate) cors_origin: Option<Vec<Origin>>,
    /// Threads that serve requests and the other nodes, 1 to 1024 [default: half the processors]
    #[arg(long, value_name = "N")]
    pub(crate) worker_threads: Option<u16>,
    /// How to write the log on stderr [default: text]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// What to log: error, warn, info, debug, trace, also per module [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

impl Settings {
    /// These settings where they say something, `below` where they do not. A secret and its file
    /// are one setting in two forms: the higher layer's form wins.
    pub(crate) fn over(self, below: Self) -> Self {
        let (cluster_secret, cluster_secret_file) = pair(
            (self.cluster_secret, self.cluster_secret_file),
            (below.cluster_secret, below.cluster_secret_file),
        );
        let (bootstrap_api_key, bootstrap_api_key_file) = pair(
            (self.bootstrap_api_key, self.bootstrap_api_key_file),
            (below.bootstrap_api_key, below.bootstrap_api_key_file),
        );
        let (admin_token, admin_token_file) = pair(
            (self.admin_token, self.admin_token_file),
            (below.admin_token, below.admin_token_file),
        );
        Self {
            node_id: self.node_id.or(below.node_id),
            data_dir: self.data_dir.or(below.data_dir),
            listen: self.listen.or(below.listen),
            peer_listen: self.peer_listen.or(below.peer_listen),
            advertise_peer: self.advertise_peer.or(below.advertise_peer),
            advertise_http: self.advertise_http.or(below.advertise_http),
            initial_cluster: self.initial_cluster.or(below.initial_cluster),
            cluster_secret,
            cluster_secret_file,
            global_prefix: self.global_prefix.or(below.global_prefix),
            bootstrap_api_key,
            bootstrap_api_key_file,
            admin_token,
            admin_token_file,
            rate_limit: self.rate_limit.or(below.rate_limit),
            cors_origin: self.cors_origin.or(below.cors_origin),
            worker_threads: self.worker_threads.or(below.worker_threads),
            log_format: self.log_format.or(below.log_format),
            log_level: self.log_level.or(below.log_level),
        }
    }

    /// Refuses a layer that gives a secret in both forms: which is meant cannot be known.
    pub(crate) fn check_pairs(&self, layer: &str) -> Result<(), Failure> {
        for (text, file, name) in [
            (
                &self.cluster_secret,
                &self.cluster_secret_file,
                "cluster-secret",
            ),
            (
                &self.bootstrap_api_key,
                &self.bootstrap_api_key_file,
                "bootstrap-api-key",
            ),
            (&self.admin_token, &self.admin_token_file, "admin-token"),
        ] {
            if text.is_some() && file.is_some() {
                return Err(Failure::usage(format!(
                    "both {name} and {name}-file are given in the {layer}"
                ))
                .hint(format!(
                    "give only one of them; {name}-file keeps it out of sight"
                )));
            }
        }
        Ok(())
    }
}

type Forms = (Option<String>, Option<PathBuf>);

fn pair(upper: Forms, lower: Forms) -> Forms {
    if upper.0.is_some() || upper.1.is_some() {
        upper
    } else {
        lower
    }
}

/// Takes an API key that an operator chose.
pub(crate) fn api_key(text: &str) -> Result<&str, Failure> {
    let allowed = (16..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if !allowed {
        return Err(
            Failure::usage("--bootstrap-api-key takes 16 to 256 visible ASCII characters")
                .hint("make one: printf 'evk_%s\\n' \"$(openssl rand -hex 32)\" > api-key"),
        );
    }
    match SecretKind::ApiKey.fault(text) {
        None => Ok(text),
        Some(fault) => Err(Failure::usage(format!("--bootstrap-api-key: {fault}"))
            .hint("or make one: printf 'evk_%s\\n' \"$(openssl rand -hex 32)\" > api-key")),
    }
}
