//! `evermind-sim`: runs seeds, and prints what each showed as a line of JSON. `cargo xtask sim` is
//! what a person types.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use evermind_sim::run::{self, Report};
use evermind_sim::trace::Trace;
use serde_json::json;

/// Runs simulated clusters, one seed after the other.
#[derive(Debug, Parser)]
struct Args {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Every so many seeds one is run twice, and the two must not differ; 0: none.
    #[arg(long, default_value_t = 0)]
    twice_every: u64,
    /// No more seeds after the first that shows something.
    #[arg(long)]
    until_found: bool,
    /// The seeded bugs that are compiled in, a line of JSON each, and nothing else.
    #[arg(long)]
    list_mutants: bool,
    /// Where to write what happened in the one seed, line by line.
    #[arg(long)]
    trace: Option<String>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if !cfg!(tokio_unstable) {
        bail!(
            "built without --cfg tokio_unstable, without which no seed decides everything\n\
             hint: cargo xtask sim builds it as it must be"
        );
    }
    if args.list_mutants {
        list_mutants();
        return Ok(());
    }
    if args.count == 1 && args.twice_every == 0 {
        return here(args);
    }
    for seed in args.seed..args.seed.saturating_add(args.count) {
        let mut line = elsewhere(seed)?;
        if args.twice_every > 0 && seed.is_multiple_of(args.twice_every) {
            let again = elsewhere(seed)?;
            if line != again {
                let what = format!("{line} became {again}");
                line = found(seed, "differs from itself", &what);
            }
        }
        println!("{line}");
        if args.until_found && line["clean"] != true {
            break;
        }
    }
    Ok(())
}

/// Runs the one seed that was asked for in this process.
fn here(args: &Args) -> Result<()> {
    mad_turmoil::rand::set_rng(rand::SeedableRng::seed_from_u64(args.seed));
    pick_mutant()?;
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .init();
    }
    let out = match &args.trace {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("{path} cannot be written"))?;
            Some(Box::new(BufWriter::new(file)) as Box<dyn Write + Send>)
        }
        None => None,
    };
    let line = match one(args.seed, Trace::new(out)) {
        Ok(report) => told(&report),
        Err(panic) => found(args.seed, "a panic", &panic),
    };
    println!("{line}");
    Ok(())
}

/// Runs a seed in a process of its own: what libraries count for a whole process, task numbers
/// among it, starts anew for each seed.
fn elsewhere(seed: u64) -> Result<serde_json::Value> {
    let program = std::env::current_exe().context("this program's own path")?;
    let output = Command::new(program)
        .args(["--seed", &seed.to_string()])
        .stderr(Stdio::null())
        .output()
        .context("starting a seed's process")?;
    let text = String::from_utf8_lossy(&output.stdout);
    match serde_json::from_str(text.trim()) {
        Ok(line) if output.status.success() => Ok(line),
        // It did not so much as start.
        _ if output.status.code() == Some(1) && text.is_empty() => bail!(
            "seed {seed} does not run: {}\nhint: evermind-sim --seed {seed}",
            output.status
        ),
        _ => Ok(found(
            seed,
            "a panic",
            &format!("its process ended: {}", output.status),
        )),
    }
}

fn told(report: &Report) -> serde_json::Value {
    let mut line = serde_json::to_value(report).unwrap_or_default();
    line["clean"] = report.outcome.is_clean().into();
    line["caughtBy"] = report.outcome.caught_by().into();
    line
}

fn found(seed: u64, what: &str, more: &str) -> serde_json::Value {
    json!({"seed": seed, "clean": false, "caughtBy": [what], "outcome": {"broken": format!("{what}: {more}")}})
}

fn list_mutants() {
    #[cfg(evermind_mutants)]
    for mutant in evermind_lock::mutant::Mutant::ALL {
        println!(
            "{}",
            json!({"name": mutant.name(), "about": mutant.about()})
        );
    }
}

/// The seeded bug that the variable names, where bugs are compiled in.
fn pick_mutant() -> Result<()> {
    let Ok(name) = std::env::var("EVERMIND_MUTANT") else {
        return Ok(());
    };
    #[cfg(evermind_mutants)]
    {
        evermind_lock::mutant::pick(Some(name.parse().map_err(anyhow::Error::msg)?));
        Ok(())
    }
    #[cfg(not(evermind_mutants))]
    bail!("EVERMIND_MUTANT={name}, and no seeded bug is compiled in\nhint: cargo xtask mutants")
}

/// On a thread of its own, whose panic is a finding.
fn one(seed: u64, trace: Trace) -> Result<Report, String> {
    let thread = thread::spawn(move || run::seed(seed, &trace));
    thread.join().map_err(|panic| {
        panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "without words".to_owned())
    })
}
