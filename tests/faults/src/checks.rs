//! What is checked when a run is over.

use std::path::Path;
use std::sync::Arc;

use evermind_checker::committed::{Committed, NodeLog};
use evermind_checker::health::check_health;
use evermind_checker::history::History;
use evermind_checker::stored::StoredNode;
use evermind_checker::witness::{Ends, check_witness};
use evermind_checker::{
    Check, ClockBound, Verdict, Violation, WindowOptions, check_direct, search,
};
use evermind_harness::cluster::NODES;
use evermind_storage::disk::RealDisk;
use evermind_storage::machine::SledTables;
use evermind_storage::runner::Threads;

use crate::archive;
use crate::cluster::Cluster;
use crate::load::Load;
use crate::setup::{Expect, Setup};

/// Of each lock's history some windows, spread over all of it: a row has tens of thousands of
/// operations, and the search is the cross-check.
const WINDOWS: WindowOptions = WindowOptions {
    max_records: 32,
    windows_per_key: 25,
    budget: 100_000,
};

/// Checks what the clients saw. Where the nodes came to rest in agreement on `applied`, their logs
/// are the witness, and their tables must be one.
pub(crate) fn check(
    history: &History,
    load: &Load,
    cluster: &Cluster,
    setup: &Setup,
    applied: Option<u64>,
) -> Verdict {
    // Where rates differ they are of a process's whole life: see `setup::RATES`.
    let clocks = ClockBound {
        rate_per_mille: setup.rate_per_mille,
        ..ClockBound::EXACT
    };
    let witness = applied.map(|applied| committed(cluster, applied));
    let mut ambiguous = None;
    let mut verdict = match witness {
        Some(Ok((committed, mut ends))) => {
            ends.live = load.watch.views();
            // Where clocks run at rates of their own, cluster time does not go with the clients'.
            ends.health = (setup.rate_per_mille == 0).then(|| load.calm.health());
            let mut verdict = check_witness(history, &committed, clocks, &ends);
            ambiguous = Some(verdict.ambiguous);
            // The order of the line is the witness's: only the log knows who was passed over because
            // their node was silent.
            verdict.merge(check_direct(history, clocks, None));
            verdict
        }
        Some(Err(violation)) => {
            let mut verdict = check_direct(history, clocks, None);
            verdict.violations.push(violation);
            verdict
        }
        // Nodes that lost what they acknowledged may never agree again: then the logs are asked for
        // what was acknowledged, of which the loss must show.
        None if setup.expect == Expect::Loss => {
            let mut verdict = check_direct(history, clocks, None);
            match acknowledged(history, cluster) {
                Ok(log) => {
                    verdict.merge(check_witness(history, &log, clocks, &Ends::default()));
                }
                Err(violation) => verdict.violations.push(violation),
            }
            verdict
        }
        None => check_direct(history, clocks, None),
    };
    verdict.merge(search(history, clocks, WINDOWS));
    if setup.expect != Expect::Loss {
        check_health(history, &load.calm.health(), &mut verdict);
        let unserved = load.calm.unserved(history, setup.clients);
        verdict.violations.extend(unserved);
    }
    // A look without an answer leaves nothing to resolve.
    verdict.ambiguous = ambiguous.unwrap_or(verdict.ambiguous);
    verdict
}

/// The one log of all, up to the newest entry that anybody was told of.
fn acknowledged(history: &History, cluster: &Cluster) -> Result<Committed, Violation> {
    let told = history.records.iter().filter_map(|record| record.log_index);
    Committed::merge(&logs(cluster)?, told.max().unwrap_or_default())
}

fn unreadable(id: u64, what: &dyn std::fmt::Display) -> Violation {
    Violation::new(Check::W5, format!("node {id}: {what}"))
}

fn data_dir(cluster: &Cluster, id: u64) -> &Path {
    &cluster.node(id).data_dir
}

/// What is in the log of each node.
fn logs(cluster: &Cluster) -> Result<Vec<NodeLog>, Violation> {
    let mut logs = Vec::new();
    for id in NODES {
        let dir = data_dir(cluster, id);
        let (log_dir, kept) = (dir.join("log"), archive::place(dir));
        let log = NodeLog::read(id, &RealDisk, &[&log_dir, &kept]);
        logs.push(log.map_err(|error| unreadable(id, &error))?);
    }
    Ok(logs)
}

/// The one log of all, and what each node has stored by it.
fn committed(cluster: &Cluster, applied: u64) -> Result<(Committed, Ends), Violation> {
    let committed = Committed::merge(&logs(cluster)?, applied)?;
    let mut ends = Ends::default();
    // Whatever opening a table wants to run is run on nothing: it is dropped with this.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("the system gives a runtime");
    let _context = runtime.enter();
    for id in NODES {
        let stored = StoredNode {
            disk: Arc::new(RealDisk),
            tables: Arc::new(SledTables),
            runner: Arc::new(Threads),
            dir: data_dir(cluster, id),
        };
        let table = stored
            .open(&committed)
            .map_err(|error| unreadable(id, &error))?;
        ends.used.insert(id, table.used.clone());
        ends.tables.insert(id, table);
    }
    Ok((committed, ends))
}
