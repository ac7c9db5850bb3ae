//! `cargo xtask sim`: simulated clusters, thousands of them, one seed each.

mod summary;
mod workers;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

use self::summary::Summary;
pub(crate) use self::workers::{Batch, Line, run_seeds};
use crate::process;
use crate::workspace::Workspace;

/// What the simulator is compiled with: `tokio_unstable` lets a seed decide what `select!` tries
/// first, the getrandom backend lets it decide what libraries draw, `evermind_mutants` brings the
/// seeded bugs, none of which is picked here.
const FLAGS: &str =
    r#"--cfg tokio_unstable --cfg evermind_mutants --cfg getrandom_backend="linux_getrandom""#;

/// Every so many seeds one is run twice, and must not differ from itself.
const TWICE_EVERY: u64 = 10;

/// Seeds that one worker process is given at a time.
const BATCH: u64 = 10;

/// What to simulate.
#[derive(Debug, Args)]
pub(crate) struct Sim {
    /// How many seeds.
    #[arg(long, default_value_t = 200, conflicts_with_all = ["hours", "seed"], value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// For so long, however many seeds that is.
    #[arg(long, value_name = "N")]
    hours: Option<f64>,
    /// Only this seed, and what happened in it as a file.
    #[arg(long, value_name = "SEED", conflicts_with = "hours")]
    seed: Option<u64>,
    /// The summary as JSON on standard output.
    #[arg(long)]
    json: bool,
}

/// Builds the simulator, in a target folder of its own. Where it is.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let target = workspace.target_dir()?.join("sim");
    let mut flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    flags.push(' ');
    flags.push_str(FLAGS);
    let mut cargo = workspace.cargo(&["build", "--profile", "sim", "-p", "evermind-sim"]);
    cargo
        .env("RUSTFLAGS", flags.trim())
        .env("CARGO_TARGET_DIR", &target);
    process::run(cargo)?;
    Ok(target.join("sim/evermind-sim"))
}

impl Sim {
    /// Runs the seeds; false where one of them showed something.
    pub(crate) fn run(&self, workspace: &Workspace) -> Result<bool> {
        let program = build(workspace)?;
        let folder = workspace.target_dir()?.join("sim");
        if let Some(seed) = self.seed {
            return replay(&program, seed, &folder.join(format!("trace-{seed}.txt")));
        }
        let until = self
            .hours
            .map(|hours| Instant::now() + Duration::from_secs_f64(hours * 3600.0));
        let batch = Batch {
            program: &program,
            from: self.from,
            count: if until.is_some() {
                u64::MAX - self.from
            } else {
                self.seeds
            },
            each: BATCH,
            twice_every: TWICE_EVERY,
            until,
        };
        let mut summary = Summary::default();
        let started = Instant::now();
        let mut told = Instant::now();
        run_seeds(&batch, |line| {
            if !line.clean {
                eprintln!("seed {}: {}", line.seed, line.account());
                eprintln!("  hint: cargo xtask sim --seed {}", line.seed);
            }
            summary.add(&line);
            if told.elapsed() > Duration::from_secs(10) {
                told = Instant::now();
                eprintln!(
                    "{} seeds, {} found something",
                    summary.seeds,
                    summary.found.len()
                );
            }
        })?;
        summary.took_s = started.elapsed().as_secs();
        let json = serde_json::to_string_pretty(&summary)?;
        std::fs::write(folder.join("report.json"), &json).context("writing the report")?;
        if self.json {
            println!("{json}");
        } else {
            println!("{}", summary.text());
        }
        Ok(summary.found.is_empty() && summary.unreached().is_empty())
    }
}

fn replay(program: &PathBuf, seed: u64, trace: &std::path::Path) -> Result<bool> {
    let mut command = Command::new(program);
    command
        .args(["--seed", &seed.to_string()])
        .arg("--trace")
        .arg(trace);
    let text = process::output(command)?;
    let line: Line = serde_json::from_str(text.trim()).context("what the simulator says")?;
    println!("seed {seed}: {}", line.account());
    println!("what happened: {}", trace.display());
    Ok(line.clean)
}
