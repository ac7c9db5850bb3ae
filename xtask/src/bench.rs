//! `cargo xtask bench --peers` and `--own`: builds the program and the benchmark, and hands over to it.

use anyhow::Result;
use clap::Args;

use crate::process;
use crate::workspace::Workspace;

/// What is measured; handed on as it is.
#[derive(Args)]
pub(crate) struct Bench {
    /// Evermind beside its bare limit and other lock services, in turn (`evermind bench` measures a
    /// cluster alone)
    #[arg(long, required_unless_present = "own", conflicts_with = "own")]
    peers: bool,
    /// Evermind alone: hand-off, failover, many leases, many keys, doing nothing
    #[arg(long)]
    own: bool,
    /// How often each system is started and measured [default: 3]
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// How long each measurement takes [default: 4s]
    #[arg(long, value_name = "TIME")]
    duration: Option<String>,
    /// How many clients at once [default: 1,8,64,256]
    #[arg(long, value_name = "N,…", conflicts_with = "own")]
    clients: Option<String>,
    /// Only these systems, as in evermind,limit, or parts of --own; docs/performance.md names them
    #[arg(long, value_name = "NAME,…")]
    only: Option<String>,
    /// JSON on standard output instead of the tables
    #[arg(long)]
    json: bool,
}

/// Measures; false where that did not come to its end.
pub(crate) fn run(workspace: &Workspace, bench: &Bench) -> Result<bool> {
    let build = ["build", "--locked", "--release", "--package", "evermind"];
    process::run(workspace.cargo(&build))?;
    let target_dir = workspace.target_dir()?;
    // A workspace of its own has a target directory of its own.
    let peers = target_dir.join("peers");
    let mut build = workspace.cargo(&["build", "--locked", "--release", "--manifest-path"]);
    build
        .arg("benches/peers/Cargo.toml")
        .arg("--target-dir")
        .arg(&peers);
    process::run(build)?;

    let program = peers.join("release/evermind-bench-peers");
    let program = program.to_string_lossy();
    let mut command = workspace.program(&program, &[]);
    if bench.own {
        command.arg("own");
    }
    command
        .arg("--evermind")
        .arg(target_dir.join("release/evermind"))
        .arg("--dir")
        .arg(target_dir.join("bench"));
    if let Some(rounds) = bench.rounds {
        command.args(["--rounds", &rounds.to_string()]);
    }
    let texts = [
        ("--duration", &bench.duration),
        ("--clients", &bench.clients),
        ("--only", &bench.only),
    ];
    for (flag, value) in texts {
        if let Some(value) = value {
            command.args([flag, value]);
        }
    }
    if bench.json {
        command.arg("--json");
    }
    Ok(process::status(&mut command)?.success())
}
