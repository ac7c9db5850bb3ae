//! `evermind-sim`: runs seeds.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use evermind_sim::run::{self, Report};
use evermind_sim::trace::Trace;

/// Runs simulated clusters, one seed after the other.
#[derive(Debug, Parser)]
struct Args {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Where to write what happened, line by line.
    #[arg(long)]
    trace: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    mad_turmoil::rand::set_rng(rand::SeedableRng::seed_from_u64(0));
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .init();
    }
    let mut failed = false;
    for seed in args.seed..args.seed + args.count {
        let out = args.trace.as_ref().map(|path| {
            let file = File::create(path).expect("the trace can be written");
            Box::new(BufWriter::new(file)) as Box<dyn Write + Send>
        });
        let report = one(seed, Trace::new(out));
        match report {
            Ok(report) => println!("{report:?}"),
            Err(panic) => {
                failed = true;
                println!("seed {seed} panicked: {panic}");
            }
        }
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// On a thread of its own: what libraries keep for a thread is new for each seed.
fn one(seed: u64, trace: Trace) -> Result<Report, String> {
    let thread = thread::spawn(move || {
        *mad_turmoil::rand::get_rng() = rand::SeedableRng::seed_from_u64(seed);
        run::seed(seed, trace)
    });
    thread.join().map_err(|panic| {
        panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "a panic without words".to_owned())
    })
}
