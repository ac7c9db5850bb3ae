//! The rounds: each system is started, measured with each number of clients, and stopped, before it
//! is the next one's turn.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::Plan;
use crate::figures::Sample;
use crate::load::closed_loop;
use crate::server::cpu_seconds;
use crate::systems::{self, Etcd, Evermind, Kind, Limit, Redlock, Setup, System, Zookeeper};
use crate::{table, versions};

/// Work before anything is measured: caches fill, files grow.
const WARM_UP: Duration = Duration::from_secs(1);
/// A virtual machine compiles what it runs while it runs it.
const WARM_UP_JAVA: Duration = Duration::from_secs(6);
const WARM_UP_CLIENTS: usize = 64;

/// Measures everything, prints it, and keeps it in `peers.json`.
pub(crate) async fn all(plan: &Plan) -> Result<()> {
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| plan.only.is_empty() || plan.only.contains(kind))
        .collect();
    systems::check(&kinds, &plan.bench.evermind)?;
    let dir = plan.bench.directory()?;
    let evermind = if kinds.contains(&Kind::Evermind) {
        plan.bench.program()?
    } else {
        plan.bench.evermind.clone()
    };
    let versions = versions::of(&kinds, &evermind)?;

    let mut samples = Vec::new();
    let mut commands = serde_json::Map::new();
    for round in 1..=plan.bench.rounds {
        for kind in order(&kinds, round) {
            let setup = Setup {
                kind,
                dir: dir.join("peers-data"),
                evermind: evermind.clone(),
            };
            let command = measure_one(plan, round, &setup, &mut samples)
                .await
                .with_context(|| format!("{}, round {round}", kind.name()))?;
            commands.insert(kind.name().to_owned(), command.into());
        }
    }

    let report = json!({
        "versions": versions,
        "commands": commands,
        "rounds": plan.bench.rounds,
        "seconds": plan.bench.duration.as_secs_f64(),
        "samples": samples,
    });
    let report = serde_json::to_string_pretty(&report).context("writing JSON")?;
    let tables = table::text(&kinds, &plan.clients, &samples, &versions);
    plan.bench.report(&dir.join("peers.json"), &report, &tables)
}

/// Another one first in each round: nobody always follows the same neighbour's leavings.
fn order(kinds: &[Kind], round: u32) -> Vec<Kind> {
    let mut order = kinds.to_vec();
    let first = (round as usize - 1) % kinds.len();
    order.rotate_left(first);
    if round.is_multiple_of(2) {
        order.reverse();
    }
    order
}

/// One system's turn. Returns the command of its first server.
async fn measure_one(
    plan: &Plan,
    round: u32,
    setup: &Setup,
    samples: &mut Vec<Sample>,
) -> Result<String> {
    empty(&setup.dir)?;
    let outcome = match setup.kind {
        Kind::Evermind => measure::<Evermind>(plan, round, setup, samples).await,
        Kind::Limit => measure::<Limit>(plan, round, setup, samples).await,
        Kind::Etcd | Kind::EtcdHttp => measure::<Etcd>(plan, round, setup, samples).await,
        Kind::Zookeeper | Kind::ZookeeperNosync => {
            measure::<Zookeeper>(plan, round, setup, samples).await
        }
        Kind::Redlock | Kind::RedlockEverysec | Kind::RedlockMemory => {
            measure::<Redlock>(plan, round, setup, samples).await
        }
    };
    // After a failure the servers' logs are what there is to look at.
    let command = outcome?;
    fs::remove_dir_all(&setup.dir).context("removing what the servers wrote")?;
    Ok(command)
}

async fn measure<S: System>(
    plan: &Plan,
    round: u32,
    setup: &Setup,
    samples: &mut Vec<Sample>,
) -> Result<String> {
    let kind = setup.kind;
    let mut system = S::start(setup).await.context("starting")?;
    let clients = system.clients(WARM_UP_CLIENTS).await?;
    let warm_up = match kind {
        Kind::Zookeeper | Kind::ZookeeperNosync => WARM_UP_JAVA,
        _ => WARM_UP,
    };
    let (done, (), ()) = closed_loop(clients, warm_up, || Ok(())).await?;
    let failures = &done.failures;
    ensure!(done.cycles > 0, "nothing was done: {failures:?}");
    for &count in &plan.clients {
        let clients = system.clients(count as usize).await?;
        let servers = system.servers();
        let meter = || -> Result<(f64, f64)> {
            let mut all = 0.0;
            for server in servers {
                all += server.cpu_seconds()?;
            }
            Ok((all, cpu_seconds(std::process::id())?))
        };
        let (done, before, after) = closed_loop(clients, plan.bench.duration, meter).await?;
        let failures = &done.failures;
        ensure!(done.cycles > 0, "nothing was done: {failures:?}");
        let memory = servers[system.leader()].peak_memory_mb()?;
        let (server_cpu, client_cpu) = (after.0 - before.0, after.1 - before.1);
        let sample = Sample::new(kind, count, round, done, server_cpu, client_cpu, memory);
        eprintln!("{}", table::progress(&sample, plan.bench.rounds));
        samples.push(sample);
    }
    Ok(system.servers()[0].command().to_owned())
}

/// An empty directory, whatever was there.
pub(crate) fn empty(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_has_each_system_in_another_order() {
        let mut orders = Vec::new();
        for round in 1..=6 {
            let order = order(&Kind::ALL, round);
            assert!(Kind::ALL.iter().all(|kind| order.contains(kind)));
            assert!(!orders.contains(&order), "round {round}");
            orders.push(order);
        }
    }
}
