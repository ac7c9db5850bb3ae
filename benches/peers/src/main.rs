//! Evermind, its bare limit and other lock services, each three processes on this machine, measured
//! in turn with the same work: acquire a key that nobody else wants, release it.
//!
//! Started by `cargo xtask bench --peers`, and by `--own` for Evermind alone, which builds what it needs.

mod bench;
mod figures;
mod http;
mod limit;
mod load;
mod own;
mod run;
mod server;
mod systems;
mod table;
mod versions;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Parser, Subcommand};

use bench::Bench;
use systems::Kind;

/// As in Evermind: the limit has what it has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Evermind beside its limit and other lock services, in turn.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    plan: Plan,
}

/// What is measured.
#[derive(clap::Args)]
struct Plan {
    #[command(flatten)]
    bench: Bench,
    /// How many clients at once; each has a descriptor in this process and in a server
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,8,64,256",
          value_parser = clap::value_parser!(u32).range(1..=512))]
    clients: Vec<u32>,
    /// Only these systems
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_enum)]
    only: Vec<Kind>,
}

/// The processes of the limit are this program too.
#[derive(Subcommand)]
enum Part {
    /// Evermind alone: hand-off, failover, many leases, many keys, doing nothing
    Own(own::Plan),
    /// The limit's leader
    #[command(hide = true)]
    LimitLeader(limit::LeaderArgs),
    /// One of the limit's followers
    #[command(hide = true)]
    LimitFollower(limit::FollowerArgs),
}

fn main() -> ExitCode {
    match start(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> Result<()> {
    match cli.part {
        Some(Part::LimitLeader(args)) => limit::lead(&args),
        Some(Part::LimitFollower(args)) => limit::follow(&args),
        Some(Part::Own(plan)) => measure(own::all(&plan)),
        None => measure(run::all(&cli.plan)),
    }
}

/// One thread: a client that takes both cores would be measured itself.
fn measure(all: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let local = tokio::task::LocalSet::new();
    // What is dropped here takes its servers with it.
    local.block_on(&runtime, async {
        tokio::select! {
            outcome = all => outcome,
            asked = asked_to_stop() => asked.and_then(|()| bail!("stopped before the end")),
        }
    })
}

async fn asked_to_stop() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).context("cannot listen for signals");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

/// `4s`, `500ms`.
fn duration(text: &str) -> Result<Duration> {
    let (digits, unit_ms) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(digits), _) => (digits, 1),
        (None, Some(digits)) => (digits, 1000),
        (None, None) => bail!("{text} has no unit: write it as 4s or 500ms"),
    };
    let count: u64 = digits
        .parse()
        .map_err(|_| anyhow!("{text} is not a time: write it as 4s or 500ms"))?;
    let ms = count.saturating_mul(unit_ms);
    if !(100..=3_600_000).contains(&ms) {
        bail!("{text} is not between 100ms and 3600s");
    }
    Ok(Duration::from_millis(ms))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("4s").unwrap(), Duration::from_secs(4));
        assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
        for wrong in ["4", "4m", "s", "-1s", "1ms", "99999s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["x", "--only", "evermind,limit", "--clients", "1,8"]);
        assert_eq!(cli.plan.only, [Kind::Evermind, Kind::Limit]);
        assert_eq!(cli.plan.clients, [1, 8]);
    }
}
