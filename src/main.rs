//! `evermind`: a replicated lock server, and the tools around it.

// They panic where nobody reads, or the disk is full; `output` does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

#[cfg(windows)]
compile_error!(
    "Evermind runs on Linux. On Windows, use WSL2: run `wsl --install`, then build inside it."
);

mod bench;
mod cluster;
mod connection;
mod dev;
mod duration;
mod exit;
mod healthcheck;
mod keys;
mod licences;
mod lock;
mod operator;
mod output;
mod patience;
mod quote;
mod secret;
mod serve;
mod stderr;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::exit::Failure;

/// A request makes and drops many small objects, most of them on another thread than the one that
/// made them. What this gives: docs/performance.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Locks that survive the loss of a node: leases, fencing tokens, FIFO waits.
#[derive(Parser)]
#[command(name = "evermind", version, arg_required_else_help = true)]
#[command(after_help = "Start with a real cluster on this machine:  evermind dev")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Dev(dev::Args),
    Serve(Box<serve::Args>),
    Lock(lock::Args),
    Keys(keys::Args),
    Licences(licences::Args),
    Cluster(cluster::Args),
    Bench(bench::Args),
    Healthcheck(healthcheck::Args),
}

fn main() -> ExitCode {
    die_of_any_panic();
    let outcome = match Cli::parse().command {
        Command::Dev(args) => dev::run(&args),
        Command::Serve(args) => serve::run(*args),
        Command::Lock(args) => lock::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Licences(args) => licences::run(&args),
        Command::Cluster(args) => cluster::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Healthcheck(args) => healthcheck::run(&args),
    };
    outcome.unwrap_or_else(|failure| failure.report())
}

/// A broken invariant must not be survived by the rest of the process: a panicked task would
/// otherwise take only its own task down.
fn die_of_any_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        tracing::error!(%panic, "a broken invariant: the process ends here");
        std::process::abort();
    }));
}

/// The runtime of every command but `serve`: one thread is enough, and leaves the others alone.
fn single_threaded() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start the async runtime: {error}")))
}

/// Shells give programs 1024 open files, for the sake of programs that use select(2); a node, or a
/// benchmark, may have 10,000 connections. How many files may be open now.
fn allow_many_connections() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}
