//! The systems that are compared.

mod etcd;
mod evermind;
mod limit;
mod redlock;
mod zookeeper;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::load::Client;
use crate::server::Server;

pub(crate) use etcd::Etcd;
pub(crate) use evermind::{API_KEY, Evermind};
pub(crate) use limit::Limit;
pub(crate) use redlock::Redlock;
pub(crate) use zookeeper::Zookeeper;

/// More clients than this share connections, where a protocol lets them.
const CONNECTIONS_MAX: usize = 32;

/// Three servers of one system, stopped when dropped.
pub(crate) trait System: Sized {
    type Client: Client + 'static;

    /// Returns when the three can serve.
    async fn start(setup: &Setup) -> Result<Self>;

    /// So many clients, all of the leader where there is one.
    async fn clients(&mut self, count: usize) -> Result<Vec<Self::Client>>;

    fn servers(&self) -> &[Server];

    /// Which of the servers leads, or the first where none does.
    fn leader(&self) -> usize;
}

/// What a system is started with.
pub(crate) struct Setup {
    pub(crate) kind: Kind,
    /// Empty, its own.
    pub(crate) dir: PathBuf,
    pub(crate) evermind: PathBuf,
}

impl Setup {
    /// A directory for one of the servers.
    fn server_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(dir)
    }
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Evermind, HTTP/JSON
    Evermind,
    /// One group commit and two followers that sync: no consensus, no locks
    Limit,
    /// etcd over gRPC: a lease granted before, then a transaction and a delete
    Etcd,
    /// The same over etcd's JSON gateway
    EtcdHttp,
    /// `ZooKeeper`: an ephemeral node is created and deleted
    Zookeeper,
    /// The same with `forceSync=no`: not durable
    ZookeeperNosync,
    /// Redlock on three Redis, `appendfsync always`
    Redlock,
    /// The same with `appendfsync everysec`: not durable
    RedlockEverysec,
    /// The same without persistence: not durable
    RedlockMemory,
}

impl Kind {
    /// Each, in the order of the table.
    pub(crate) const ALL: [Self; 9] = [
        Self::Evermind,
        Self::Limit,
        Self::Etcd,
        Self::EtcdHttp,
        Self::Zookeeper,
        Self::ZookeeperNosync,
        Self::Redlock,
        Self::RedlockEverysec,
        Self::RedlockMemory,
    ];

    /// What `--only` calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Evermind => "evermind",
            Self::Limit => "limit",
            Self::Etcd => "etcd",
            Self::EtcdHttp => "etcd-http",
            Self::Zookeeper => "zookeeper",
            Self::ZookeeperNosync => "zookeeper-nosync",
            Self::Redlock => "redlock",
            Self::RedlockEverysec => "redlock-everysec",
            Self::RedlockMemory => "redlock-memory",
        }
    }

    /// Whether what was acknowledged outlives a loss of power.
    pub(crate) fn is_durable(self) -> bool {
        !matches!(
            self,
            Self::ZookeeperNosync | Self::RedlockEverysec | Self::RedlockMemory
        )
    }

    /// What the table calls it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Evermind => "Evermind",
            Self::Limit => "the limit",
            Self::Etcd => "etcd, gRPC",
            Self::EtcdHttp => "etcd, HTTP/JSON",
            Self::Zookeeper => "ZooKeeper",
            Self::ZookeeperNosync => "ZooKeeper, forceSync=no (not durable)",
            Self::Redlock => "Redlock, appendfsync always",
            Self::RedlockEverysec => "Redlock, everysec (not durable)",
            Self::RedlockMemory => "Redlock, no persistence (not durable)",
        }
    }

    /// What must be on this machine, and the Debian package that it comes in.
    pub(crate) fn needs(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Evermind | Self::Limit => None,
            Self::Etcd | Self::EtcdHttp => Some((etcd::PROGRAM, "etcd-server")),
            Self::Zookeeper | Self::ZookeeperNosync => Some((zookeeper::JAR, "zookeeper")),
            Self::Redlock | Self::RedlockEverysec | Self::RedlockMemory => {
                Some((redlock::PROGRAM, "redis-server"))
            }
        }
    }
}

/// Fails before anything is started where something is missing.
pub(crate) fn check(kinds: &[Kind], evermind: &Path) -> Result<()> {
    ensure!(
        !kinds.contains(&Kind::Evermind) || evermind.is_file(),
        "{} is not there\nhint: --evermind names a release build; `cargo xtask bench --peers` makes it",
        evermind.display()
    );
    for (file, package) in kinds.iter().filter_map(|kind| kind.needs()) {
        ensure!(
            Path::new(file).is_file(),
            "{file} is not there\nhint: install Debian's package {package}, its service switched off, \
             or choose with --only"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn every_system_is_in_the_table_under_its_name() {
        assert_eq!(Kind::value_variants(), Kind::ALL);
        for kind in Kind::ALL {
            let value = kind.to_possible_value().expect("none is hidden");
            assert_eq!(value.get_name(), kind.name());
            assert_eq!(kind.title().contains("not durable"), !kind.is_durable());
        }
    }
}
