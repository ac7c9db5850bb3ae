//! The tests themselves.

use std::io::{self, IsTerminal as _};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::well;
use crate::process;
use crate::stage::{Extent, Found};
use crate::workspace::Workspace;

/// Unit and integration tests: under nextest where it is, as it runs each test in a process of its
/// own and stops one that hangs; else under `cargo test`, which every toolchain has.
pub(super) fn all(workspace: &Workspace, extent: Extent) -> Result<Found> {
    let kinds: &[&str] = if extent == Extent::Quick {
        &["--lib", "--bins"]
    } else {
        &["--lib", "--bins", "--tests"]
    };
    if workspace.has("cargo-nextest") {
        let mut command = workspace.cargo(&["nextest", "run", "--workspace", "--locked"]);
        command.args(kinds).arg("--no-fail-fast");
        if io::stderr().is_terminal() {
            // It is shown through a pipe here, and would think that nobody looks.
            command.args(["--color", "always"]);
        }
        return counted(command);
    }
    let mut command = workspace.cargo(&["test", "--workspace", "--locked", "--no-fail-fast"]);
    command.args(kinds);
    well(process::run(command))
}

pub(super) fn doc(workspace: &Workspace, _: Extent) -> Result<Found> {
    well(process::run(workspace.cargo(&[
        "test",
        "--workspace",
        "--locked",
        "--doc",
    ])))
}

/// Runs tests, and takes nextest's own last count into the table.
fn counted(command: Command) -> Result<Found> {
    let (passed, text) = process::watched(command)?;
    let counts = counts(&text).context("the tests did not run to their end")?;
    if !passed {
        bail!("{counts}");
    }
    // A test that is not run proves nothing, and looks as if it did.
    if !counts.ends_with(" 0 skipped") {
        bail!("{counts}: no test may be ignored");
    }
    Ok(Found::Well(counts.to_owned()))
}

/// `2 tests run: 2 passed, 0 skipped`, out of nextest's closing line.
fn counts(text: &str) -> Option<&str> {
    let line = text.lines().rev().find(|line| line.contains("Summary ["))?;
    line.split_once(']').map(|(_, counts)| counts.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_are_those_of_the_closing_line() {
        let text = "  PASS [   0.008s] (1/2) a\n     Summary [   0.072s] 2 tests run: 2 passed, 0 skipped\n";
        assert_eq!(counts(text), Some("2 tests run: 2 passed, 0 skipped"));
        assert_eq!(counts("error: could not compile `evermind`\n"), None);
    }
}
