//! What a developer types: `cargo xtask test`, `cargo xtask faults`, `cargo xtask dist`.

mod absences;
mod bench;
mod counts;
mod dist;
mod faults;
mod fuzz;
mod lexer;
mod mutants;
mod process;
mod report;
mod sim;
mod stage;
mod stages;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::stages::Extent;
use crate::workspace::Workspace;

/// Evermind's own chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Checks everything that can be checked here, and names what could not be.
    Test {
        /// Every stage, the release build too; a stage that cannot run is a failure. What CI runs.
        #[arg(long, conflicts_with = "quick")]
        all: bool,
        /// Only what takes seconds once built: formatting, lints, absences, unit tests.
        #[arg(long)]
        quick: bool,
        /// Only the stages of these names.
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
    },
    /// Proves what ARCHITECTURE.md says is absent: dependencies, their direction, words in sources.
    Absences,
    /// Measures Evermind beside other lock services: cycles per second, latency, CPU, memory.
    Bench(bench::Bench),
    /// Injects faults into real processes, and checks what their clients saw.
    Faults(faults::Faults),
    /// Tries at random what an attacker or a broken disk can send: the targets of fuzz/, one after
    /// the other.
    Fuzz {
        /// For each target; 0 tries its committed corpus alone.
        #[arg(long, default_value_t = 10, value_name = "M")]
        minutes: u64,
        /// Only this one.
        target: Option<String>,
    },
    /// Runs simulated clusters, one seed each: every fault, every message and every date of a seed
    /// is the same each time.
    Sim(sim::Sim),
    /// Runs the simulator with each seeded bug: it must find all of them.
    Mutants(mutants::Mutants),
    /// Counts the instructions of the hot paths, and compares them with benches/counts.toml.
    Counts(counts::Counts),
    /// Builds the release tarball: target/dist/evermind-VERSION-TARGET.tar.gz and its sha256.
    Dist,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does what was asked; false where it ran and found something wrong.
fn run(cli: &Cli) -> Result<bool> {
    let workspace = Workspace::find()?;
    match &cli.command {
        Command::Test { all, quick, only } => {
            let extent = match (all, quick) {
                (true, _) => Extent::All,
                (_, true) => Extent::Quick,
                _ => Extent::Usual,
            };
            stages::run(&workspace, extent, only)
        }
        Command::Absences => {
            println!("{}", absences::check(&workspace)?);
            Ok(true)
        }
        Command::Bench(asked) => bench::run(&workspace, asked),
        Command::Faults(asked) => faults::run(&workspace, asked),
        Command::Fuzz { minutes, target } => fuzz::run(&workspace, *minutes, target.as_deref()),
        Command::Sim(sim) => sim.run(&workspace),
        Command::Mutants(mutants) => mutants.run(&workspace),
        Command::Counts(asked) => counts::run(&workspace, asked),
        Command::Dist => {
            println!("{}", dist::build(&workspace)?.display());
            Ok(true)
        }
    }
}
