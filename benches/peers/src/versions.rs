//! What exactly was measured, and on what.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::systems::Kind;

/// Each system's version, and the machine's.
pub(crate) fn of(kinds: &[Kind], evermind: &Path) -> Result<BTreeMap<&'static str, String>> {
    let mut versions = BTreeMap::new();
    for kind in kinds {
        match kind {
            Kind::Evermind => {
                versions.insert("Evermind", first_line(evermind, &["--version"])?);
            }
            Kind::Limit => {}
            Kind::Etcd | Kind::EtcdHttp => {
                versions.insert("etcd", package("etcd-server")?);
            }
            Kind::Zookeeper | Kind::ZookeeperNosync => {
                versions.insert("ZooKeeper", package("zookeeper")?);
                versions.insert(
                    "Java",
                    first_line("/usr/bin/java".as_ref(), &["--version"])?,
                );
            }
            Kind::Redlock | Kind::RedlockEverysec | Kind::RedlockMemory => {
                versions.insert("Redis", package("redis-server")?);
            }
        }
    }
    versions.insert("Linux", read("/proc/sys/kernel/osrelease")?);
    let processors = std::thread::available_parallelism().context("counting the processors")?;
    versions.insert("processors", processors.to_string());
    Ok(versions)
}

/// The version of a Debian package.
fn package(name: &str) -> Result<String> {
    let query = ["--show", "--showformat", "${Version}\n", name];
    first_line("dpkg-query".as_ref(), &query)
}

fn first_line(program: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("starting {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().map(str::to_owned);
    line.with_context(|| format!("{} said nothing", program.display()))
}

fn read(path: &str) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    Ok(text.trim().to_owned())
}
