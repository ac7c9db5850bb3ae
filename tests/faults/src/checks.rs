//! What is checked when a run is over.

use std::path::Path;
use std::sync::Arc;

use evermind_checker::committed::{Committed, NodeLog};
use evermind_checker::history::History;
use evermind_checker::stored::StoredNode;
use evermind_checker::witness::{Ends, check_witness};
use evermind_checker::{Check, ClockBound, Verdict, Violation, check_direct};
use evermind_harness::cluster::NODES;
use evermind_storage::disk::RealDisk;
use evermind_storage::machine::SledTables;
use evermind_storage::runner::Threads;

use crate::archive;
use crate::cluster::Cluster;
use crate::load::Load;

/// Checks what the clients saw. Where the nodes came to rest in agreement on `applied`, their logs
/// are the witness, and their tables must be one.
pub(crate) fn check(
    history: &History,
    load: &Load,
    cluster: &Cluster,
    rate_per_mille: u64,
    applied: Option<u64>,
) -> Verdict {
    // Where rates differ they are of a process's whole life: see `setup::RATES`.
    let clocks = ClockBound {
        rate_per_mille,
        ..ClockBound::EXACT
    };
    let witness = applied.map(|applied| committed(cluster, applied));
    match witness {
        Some(Ok((committed, mut ends))) => {
            ends.live = load.watch.views();
            let mut verdict = check_witness(history, &committed, clocks, &ends);
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
        None => check_direct(history, clocks, None),
    }
}

/// The one log of all, and what each node has stored by it.
fn committed(cluster: &Cluster, applied: u64) -> Result<(Committed, Ends), Violation> {
    let unreadable = |id: u64, what: &dyn std::fmt::Display| {
        Violation::new(Check::W5, format!("node {id}: {what}"))
    };
    let data_dir = |id: u64| -> &Path { &cluster.node(id).data_dir };
    let mut logs = Vec::new();
    for id in NODES {
        let (log_dir, kept) = (data_dir(id).join("log"), archive::place(data_dir(id)));
        let log = NodeLog::read(id, &RealDisk, &[&log_dir, &kept])
            .map_err(|error| unreadable(id, &error))?;
        logs.push(log);
    }
    let committed = Committed::merge(&logs, applied)?;
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
            dir: data_dir(id),
        };
        let table = stored
            .open(&committed)
            .map_err(|error| unreadable(id, &error))?;
        ends.used.insert(id, table.used.clone());
        ends.tables.insert(id, table);
    }
    Ok((committed, ends))
}
