//! What Evermind alone is held to, beyond cycles per second beside others: handing a lock over,
//! losing its leader, holding a million leases, and doing nothing.
//!
//! Started by `cargo xtask bench --own`.

mod failover;
mod load;
mod mass;

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::bench::Bench;
use crate::figures::Spread;
use crate::systems::{self, Evermind, Kind, Setup, System as _};
use crate::table;

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    bench: Bench,
    /// How many leases, and keys, are many
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=4_000_000))]
    many: u32,
    /// Only these parts
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_enum)]
    only: Vec<Part>,
}

/// One part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// 32 clients in line for one key
    HandOff,
    /// kill -9 of the leader under 16 clients
    Failover,
    /// Many live leases
    Leases,
    /// Many leases that end at the same moment
    MassExpiry,
    /// Many keys, each taken and given back in turn
    Keys,
    /// Nothing at all
    Idle,
}

/// A median of fewer says little: elections are drawn by lot.
const FAILOVERS: u32 = 10;
/// Few are as many as this.
const FEW: u32 = 1_000;
const IDLE_FOR: Duration = Duration::from_secs(30);
/// A cluster that was just made still elects, settles and writes its first checkpoint.
const SETTLE: Duration = Duration::from_secs(5);

/// One row of the table.
#[derive(Debug, Serialize)]
struct Row {
    what: String,
    unit: &'static str,
    digits: usize,
    figures: Vec<f64>,
}

impl Row {
    fn new(what: impl Into<String>, unit: &'static str, digits: usize) -> Self {
        Self {
            what: what.into(),
            unit,
            digits,
            figures: Vec::new(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let show = |figure: f64| format!("{figure:.*}", self.digits);
        let spread = Spread::of(self.figures.iter().copied());
        let range = spread.map(|spread| format!("{}–{}", show(spread.min), show(spread.max)));
        vec![
            self.what.clone(),
            spread.map_or_else(|| "–".to_owned(), |spread| show(spread.median)),
            range.unwrap_or_default(),
            self.figures.len().to_string(),
            self.unit.to_owned(),
        ]
    }
}

/// Measures, prints, and keeps it in `own.json`.
pub(crate) async fn all(plan: &Plan) -> Result<()> {
    systems::check(&[Kind::Evermind], &plan.bench.evermind)?;
    let dir = plan.bench.directory()?;
    let setup = Setup {
        kind: Kind::Evermind,
        dir: dir.join("own-data"),
        evermind: plan.bench.program()?,
    };
    let wanted = |part| plan.only.is_empty() || plan.only.contains(&part);
    let mut rows = Vec::new();
    if wanted(Part::HandOff) {
        rows.extend(hand_off(plan, &setup).await?);
    }
    if wanted(Part::Failover) {
        rows.extend(failovers(&setup).await?);
    }
    if wanted(Part::Leases) {
        rows.extend(leases(plan, &setup).await?);
    }
    if wanted(Part::MassExpiry) {
        rows.extend(mass_expiry(plan, &setup).await?);
    }
    if wanted(Part::Keys) {
        rows.extend(keys(plan, &setup).await?);
    }
    if wanted(Part::Idle) {
        rows.extend(idle(plan, &setup).await?);
    }
    let figures = serde_json::to_string_pretty(&rows).context("writing JSON")?;
    let heads = ["", "median", "least–most", "times", "unit"];
    let mut cells = vec![heads.map(str::to_owned).to_vec()];
    cells.extend(rows.iter().map(Row::cells));
    let tables = table::markdown(&cells);
    plan.bench.report(&dir.join("own.json"), &figures, &tables)
}

/// A new cluster on an empty directory.
async fn cluster(setup: &Setup) -> Result<Evermind> {
    crate::run::empty(&setup.dir)?;
    let mut cluster = Evermind::start(setup).await.context("starting")?;
    cluster.find_leader().await?;
    Ok(cluster)
}

async fn hand_off(plan: &Plan, setup: &Setup) -> Result<[Row; 2]> {
    let mut rows = [
        Row::new("hand-off to the first of 32 in line, p50", "ms", 2),
        Row::new("the same ÷ one uncontended acquire's p50", "", 2),
    ];
    for round in 1..=plan.bench.rounds {
        let cluster = cluster(setup).await?;
        let run = |workload: &[&str]| load::run(setup, &cluster, plan.bench.duration, workload);
        run(&["--clients", "64"])?;
        // Uncontended before and after: what drifts meanwhile is in both.
        let before = run(&["--clients", "1"])?.at("acquire", "p50")?;
        let contended = run(&["--workload", "contended", "--clients", "32"])?;
        let after = run(&["--clients", "1"])?.at("acquire", "p50")?;
        let took = contended.at("handOff", "p50")?;
        let ratio = took / f64::midpoint(before, after);
        eprintln!(
            "hand-off {round}/{}: {:.2} ms, {ratio:.2}",
            plan.bench.rounds,
            took / 1e3
        );
        rows[0].figures.push(took / 1e3);
        rows[1].figures.push(ratio);
    }
    Ok(rows)
}

async fn failovers(setup: &Setup) -> Result<[Row; 1]> {
    let mut row = Row::new(
        "first grant after kill -9 of the leader, 16 clients",
        "ms",
        0,
    );
    for time in 1..=FAILOVERS {
        let took = failover::first_grant(cluster(setup).await?).await?;
        eprintln!("failover {time}/{FAILOVERS}: {} ms", took.as_millis());
        row.figures.push(took.as_secs_f64() * 1e3);
    }
    Ok([row])
}

async fn leases(plan: &Plan, setup: &Setup) -> Result<[Row; 4]> {
    let many = plan.many;
    let mut rows = [
        Row::new(format!("{many} leases taken, 64 clients"), "leases/s", 0),
        Row::new(format!("leader's peak memory with {many}"), "MB", 0),
        Row::new(format!("p99 of acquire with {many} ÷ with {FEW}"), "", 2),
        Row::new(format!("cycles/s with {many} leases ÷ with {FEW}"), "", 2),
    ];
    for round in 1..=plan.bench.rounds {
        let cluster = cluster(setup).await?;
        let run = |workload: &[&str]| load::run(setup, &cluster, plan.bench.duration, workload);
        run(&["--clients", "64"])?;
        load::hold(setup, &cluster, FEW)?;
        let few = run(&["--clients", "8"])?;
        let held = load::hold(setup, &cluster, many)?;
        // Twice the time between two looks at the log's size, and a snapshot is made.
        tokio::time::sleep(SETTLE).await;
        let full = run(&["--clients", "8"])?;
        let peak = cluster.servers()[cluster.leader()].peak_memory_mb()?;
        let p99 = full.at("acquire", "p99")? / few.at("acquire", "p99")?;
        let cycles = full.cycles_per_second()? / few.cycles_per_second()?;
        let figures = [held.cycles_per_second()?, peak, p99, cycles];
        eprintln!("leases {round}/{}: {figures:.2?}", plan.bench.rounds);
        for (row, figure) in rows.iter_mut().zip(figures) {
            row.figures.push(figure);
        }
    }
    Ok(rows)
}

async fn mass_expiry(plan: &Plan, setup: &Setup) -> Result<[Row; 4]> {
    let many = plan.many;
    let mut rows = [
        Row::new(format!("{many} leases end at once: p99 of others' operations"), "ms", 1),
        Row::new("the same: their longest", "ms", 1),
        Row::new("the same: until the last is ended", "s", 2),
        Row::new("the same: elections", "", 0),
    ];
    for round in 1..=plan.bench.rounds {
        let ended = mass::expiry(cluster(setup).await?, many).await?;
        let figures = [ended.p99_ms, ended.max_ms, ended.backlog_s, ended.elections];
        eprintln!("mass expiry {round}/{}: {figures:.2?}", plan.bench.rounds);
        for (row, figure) in rows.iter_mut().zip(figures) {
            row.figures.push(figure);
        }
    }
    Ok(rows)
}

async fn keys(plan: &Plan, setup: &Setup) -> Result<[Row; 1]> {
    let many = plan.many.to_string();
    let mut row = Row::new(format!("cycles/s over {many} keys ÷ over {FEW}"), "", 2);
    for round in 1..=plan.bench.rounds {
        let cluster = cluster(setup).await?;
        let run = |keys: &str| {
            let workload = ["--clients", "64", "--keys", keys];
            load::run(setup, &cluster, plan.bench.duration, &workload)?.cycles_per_second()
        };
        run(&many)?;
        let before = run(&FEW.to_string())?;
        let with_many = run(&many)?;
        let after = run(&FEW.to_string())?;
        let ratio = with_many / f64::midpoint(before, after);
        eprintln!("keys {round}/{}: {ratio:.2}", plan.bench.rounds);
        row.figures.push(ratio);
    }
    Ok([row])
}

async fn idle(plan: &Plan, setup: &Setup) -> Result<[Row; 1]> {
    let mut row = Row::new("CPU of three idle nodes without leases", "% of a core", 2);
    for round in 1..=plan.bench.rounds {
        let cluster = cluster(setup).await?;
        tokio::time::sleep(SETTLE).await;
        let used = || -> Result<f64> {
            let each = cluster.servers().iter();
            each.map(crate::server::Server::cpu_seconds).sum()
        };
        let before = used()?;
        tokio::time::sleep(IDLE_FOR).await;
        let share = (used()? - before) / IDLE_FOR.as_secs_f64() * 100.0;
        eprintln!("idle {round}/{}: {share:.2} % of a core", plan.bench.rounds);
        row.figures.push(share);
    }
    Ok([row])
}
