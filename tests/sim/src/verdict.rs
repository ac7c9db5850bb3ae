//! What the checker says of a run.

use std::path::Path;
use std::sync::Arc;

use evermind_checker::committed::{Committed, NodeLog};
use evermind_checker::health::check_health;
use evermind_checker::history::{History, Told};
use evermind_checker::stored::StoredNode;
use evermind_checker::witness::{Ends, LiveView, check_witness};
use evermind_checker::{
    Check, ClockBound, Verdict, Violation, WindowOptions, check_direct, search,
};
use evermind_storage::disk::sim::SimDisk;
use evermind_storage::disk::{Disk, write_all_at};
use evermind_storage::runner::Tasks;
use serde::Serialize;

use crate::disk::{Archive, DATA_DIR};
use crate::net::HostId;
use crate::node::NODES;
use crate::spells::Spells;
use crate::world::World;

/// Where the checker finds what left a node's log.
const ARCHIVE_DIR: &str = "/archive";

/// A cluster that nothing has harmed yet is founded by then, in ns; trouble begins later.
const FOUNDED_NS: u64 = 1_500_000_000;

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    /// A run that did not come to its end: an invariant that broke, a node that ended, a cluster
    /// that did not heal.
    pub broken: Option<String>,
    /// What the checker says of the history.
    pub verdict: Verdict,
    /// Grants that were told.
    pub grants: u64,
    /// Entries of the committed log.
    pub entries: u64,
}

impl Outcome {
    /// Nothing is wrong, and nothing is left open.
    pub fn is_clean(&self) -> bool {
        self.broken.is_none() && self.verdict.is_clean()
    }

    /// What found something.
    pub fn caught_by(&self) -> Vec<String> {
        let mut rules: Vec<Check> = self.verdict.violations.iter().map(|v| v.check).collect();
        rules.sort_unstable();
        rules.dedup();
        let mut names: Vec<String> = rules.iter().map(ToString::to_string).collect();
        if !self.verdict.undecided.is_empty() {
            names.push("undecided".to_owned());
        }
        if let Some(broken) = &self.broken {
            names.push(broken.split(':').next().unwrap_or(broken).to_owned());
        }
        names
    }
}

/// Checks a run that is over: everything the clients were told, against what all nodes have in
/// their logs and tables. A run that broke off is checked as far as that goes: from outside.
pub fn check(
    world: &mut World,
    broken: Option<String>,
    live: Vec<LiveView>,
    spells: Spells,
) -> Outcome {
    let applied = world.applied();
    for id in NODES {
        // What only the page cache has is not there: every run ends as a test of durability.
        if world.places[&id].host.is_running() {
            world.power_off(id);
        }
    }
    let fast = world.fast_spells();
    let clocks = ClockBound {
        rate_per_mille: 0,
        spells: &fast,
    };
    let history = world.clients.recorder.with(|history| history.clone());
    let grants = history
        .records
        .iter()
        .filter(|record| matches!(record.told, Told::Granted { .. }))
        .count() as u64;
    let broken = broken.or_else(|| unreasonable(&history));
    let mut outcome = Outcome {
        broken,
        grants,
        ..Outcome::default()
    };
    outcome.verdict = search(&history, clocks, WindowOptions::default());
    let (health, unserved) = spells.judge(world, &history);
    outcome.verdict.violations.extend(unserved);
    check_health(&history, &health, &mut outcome.verdict);
    if outcome.broken.is_some() {
        let direct = check_direct(&history, clocks, None);
        outcome.verdict.merge(direct);
        return outcome;
    }
    match committed(world, applied) {
        Ok((committed, mut ends)) => {
            ends.live = live;
            ends.health = Some(health);
            outcome.entries = committed.len() as u64;
            let witness = check_witness(&history, &committed, clocks, &ends);
            // The order of the line is the witness's: only the log knows who was passed over because
            // their node was silent.
            let direct = check_direct(&history, clocks, None);
            let ambiguous = witness.ambiguous;
            outcome.verdict.merge(witness);
            outcome.verdict.merge(direct);
            // A look without an answer leaves nothing to resolve.
            outcome.verdict.ambiguous = ambiguous;
        }
        Err(violation) => {
            let direct = check_direct(&history, clocks, None);
            outcome.verdict.merge(direct);
            outcome.verdict.violations.push(violation);
        }
    }
    outcome
}

/// A refusal without an entry behind it, for a reason that was not there.
fn unreasonable(history: &History) -> Option<String> {
    let refused = history.records.iter().find(|record| match &record.told {
        Told::Refused { status, .. } if record.log_index.is_none() => match status {
            503 => false,
            // The operator may have taken the key back.
            401 | 403 if record.key.starts_with("t-") => false,
            // Before the cluster was founded nobody had an API key.
            401 => record.invoked.0 > FOUNDED_NS,
            _ => true,
        },
        _ => false,
    })?;
    Some(format!("refused for no reason: {refused:?}"))
}

fn committed(world: &World, applied: u64) -> Result<(Committed, Ends), Violation> {
    let unreadable = |id: HostId, what: &dyn std::fmt::Display| {
        Violation::new(Check::W5, format!("node {id}: {what}"))
    };
    let mut logs = Vec::new();
    let mut disks = Vec::new();
    for id in NODES {
        let place = &world.places[&id].disk;
        let disk = place.now().fork();
        unpack(&disk, &place.archive());
        let log_dir = Path::new(DATA_DIR).join("log");
        let log = NodeLog::read(id, &disk, &[&log_dir, Path::new(ARCHIVE_DIR)])
            .map_err(|error| unreadable(id, &error))?;
        logs.push(log);
        disks.push((id, disk, place.tables()));
    }
    // Answered is what a majority has synced, and it stays on a majority.
    let have = logs.iter().filter(|log| log.last_index() >= Some(applied));
    if have.count() < 2 {
        let what = format!("entry {applied} was applied, and is on no majority of disks");
        return Err(Violation::new(Check::W5, what));
    }
    let committed = Committed::merge(&logs, applied)?.in_pieces(world.pieces());
    let mut ends = Ends::default();
    // Whatever opening a table wants to run is run on nothing: it is dropped with this.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("the system gives a runtime");
    let _context = runtime.enter();
    for (id, disk, tables) in disks {
        let stored = StoredNode {
            disk: Arc::new(disk),
            tables: Arc::new(tables),
            runner: Arc::new(Tasks),
            dir: Path::new(DATA_DIR),
        };
        let table = stored
            .open(&committed)
            .map_err(|error| unreadable(id, &error))?;
        ends.used.insert(id, table.used.clone());
        ends.tables.insert(id, table);
    }
    Ok((committed, ends))
}

fn unpack(disk: &SimDisk, archive: &Archive) {
    let dir = Path::new(ARCHIVE_DIR);
    disk.create_dir_all(dir).expect("a simulated disk");
    for (name, bytes) in archive {
        let file = disk.create(&dir.join(name)).expect("a simulated disk");
        write_all_at(&*file, bytes, 0).expect("a simulated disk");
    }
}
