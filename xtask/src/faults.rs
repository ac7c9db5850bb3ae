//! `cargo xtask faults`: builds the program and the fault matrix, and hands over to it.

use std::path::Path;

use anyhow::Result;
use clap::Args;

use crate::process;
use crate::workspace::Workspace;

/// What the matrix is asked for; handed on as it is.
#[derive(Args)]
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

/// Runs the matrix; false where a row failed.
pub(crate) fn run(workspace: &Workspace, faults: &Faults) -> Result<bool> {
    // `--bin` chooses among the targets of every package named: each program is named.
    let mut build = vec!["build", "--locked"];
    build.extend(["--package", "evermind", "--bin", "evermind"]);
    build.extend(["--package", "evermind-faults", "--bin", "evermind-faults"]);
    if faults.release {
        build.push("--release");
    }
    process::run(workspace.cargo(&build))?;
    let profile = if faults.release { "release" } else { "debug" };
    let programs = workspace.target_dir()?.join(profile);
    let program = path(&programs.join("evermind-faults"));
    let mut command = workspace.program(&program, &[]);
    command.env("EVERMIND_BIN", programs.join("evermind"));
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
    command.arg(workspace.target_dir()?.join("faults"));
    Ok(process::status(&mut command)?.success())
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
