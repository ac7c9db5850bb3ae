//! `cargo xtask faults`: builds the program and the fault matrix, and hands over to it.

use std::path::Path;

use anyhow::Result;
use clap::Args;

use crate::process;
use crate::workspace::Workspace;

/// What the matrix is asked for; handed on as it is.
#[derive(Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags are")]
pub(crate) struct Faults {
    /// Only this row; may be given several times.
    #[arg(long, value_name = "N")]
    row: Vec<u32>,
    /// Goes through the rows again and again until this time is used up.
    #[arg(long, value_name = "M")]
    minutes: Option<u64>,
    /// The bounded set, for continuous integration.
    #[arg(long)]
    ci: bool,
    /// JSON on standard output instead of the table.
    #[arg(long)]
    json: bool,
    /// Prints the rows and runs none.
    #[arg(long)]
    list: bool,
    /// An optimised build: several times the operations. Without it the program's own assertions
    /// are on, and nothing is built that the tests have not built already.
    #[arg(long)]
    release: bool,
}

// `--bin` chooses among the targets of every package named: each program is named.
const EVERMIND: [&str; 4] = ["--package", "evermind", "--bin", "evermind"];
const MATRIX: [&str; 4] = ["--package", "evermind-faults", "--bin", "evermind-faults"];

/// Runs the matrix; false where a row failed.
pub(crate) fn run(workspace: &Workspace, faults: &Faults) -> Result<bool> {
    let target_dir = workspace.target_dir()?;
    let (program, matrix) = if faults.release {
        process::run(
            workspace.cargo(&[&["build", "--locked", "--release"], &EVERMIND[..]].concat()),
        )?;
        // A row that fails says so by a panic, which ends a release build's whole process.
        process::run(
            workspace.cargo(&[&["build", "--locked", "--profile", "sim"], &MATRIX[..]].concat()),
        )?;
        ("release/evermind", "sim/evermind-faults")
    } else {
        process::run(
            workspace.cargo(&[&["build", "--locked"], &EVERMIND[..], &MATRIX[..]].concat()),
        )?;
        ("debug/evermind", "debug/evermind-faults")
    };
    let matrix = path(&target_dir.join(matrix));
    let mut command = workspace.program(&matrix, &[]);
    command.env("EVERMIND_BIN", target_dir.join(program));
    for row in &faults.row {
        command.args(["--row", &row.to_string()]);
    }
    if let Some(minutes) = faults.minutes {
        command.args(["--minutes", &minutes.to_string()]);
    }
    if faults.ci {
        command.arg("--ci");
    }
    if faults.json {
        command.arg("--json");
    }
    if faults.list {
        command.arg("--list");
    }
    command.arg("--dir");
    command.arg(target_dir.join("faults"));
    Ok(process::status(&mut command)?.success())
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
