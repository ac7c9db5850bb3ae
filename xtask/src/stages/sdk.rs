//! The TypeScript client and the npm command: one workspace of npm's, with checks of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::process;
use crate::stage::{Extent, Found};
use crate::workspace::Workspace;

/// Under the root.
const DIRECTORY: &str = "sdk/typescript";

/// What is checked before the tests, cheapest first: scripts of its package.json. The types of the
/// tests are those of the built packages, so those are built before.
const SCRIPTS: &[&str] = &[
    "check:format",
    "check:generated",
    "build",
    "check:types",
    "check:lint",
    "check:size",
    "check:publint",
    "check:attw",
];

/// Everything there is to check, against the server that the other tests built.
pub(super) fn all(workspace: &Workspace, _: Extent) -> Result<Found> {
    let npm = |args: &[&str]| {
        let mut command = workspace.program("npm", args);
        command.current_dir(workspace.root().join(DIRECTORY));
        command
    };
    process::run(workspace.cargo(&["build", "--locked", "--package", "evermind"]))?;
    // The command's tests play its table of terminal and signal cases.
    let table = [
        "--package",
        "evermind-harness",
        "--example",
        "terminal-table",
    ];
    process::run(workspace.cargo(&[&["build", "--locked"], &table[..]].concat()))?;
    process::run(npm(&["ci", "--prefer-offline"]))?;
    for script in SCRIPTS {
        process::run(npm(&["run", "--silent", script]))?;
    }
    let counts = workspace.target_dir()?.join("sdk-tests.json");
    let mut tests = npm(&["test", "--silent", "--"]);
    tests
        .args(["--reporter=default", "--reporter=json"])
        .arg(format!("--outputFile.json={}", counts.display()))
        .env(
            "EVERMIND_BIN",
            workspace.target_dir()?.join("debug/evermind"),
        );
    counted(tests, &counts)
}

/// Runs the tests, and takes their count out of the report that they write.
fn counted(tests: Command, report: &Path) -> Result<Found> {
    // One that is there from the last run would pass for this one's.
    if report.exists() {
        fs::remove_file(report).with_context(|| format!("removing {}", report.display()))?;
    }
    process::run(tests)?;
    let text =
        fs::read_to_string(report).with_context(|| format!("reading {}", report.display()))?;
    let report = serde_json::from_str(&text).context("reading the tests' report")?;
    counts(&report).map(Found::Well)
}

fn counts(report: &Value) -> Result<String> {
    let count = |name| {
        let count = report[name].as_u64();
        count.with_context(|| format!("the tests' report has no {name}"))
    };
    let (passed, all) = (count("numPassedTests")?, count("numTotalTests")?);
    ensure!(all > 0, "no test ran");
    // A test that is not run proves nothing, and looks as if it did.
    if passed != all {
        bail!("{passed} of {all} tests passed: none may be left out");
    }
    Ok(format!("{all} tests run: {passed} passed"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_test_counts() {
        let report = |passed, all| json!({ "numPassedTests": passed, "numTotalTests": all });
        assert_eq!(counts(&report(2, 2)).unwrap(), "2 tests run: 2 passed");
        assert!(counts(&report(1, 2)).is_err());
        assert!(counts(&report(0, 0)).is_err());
        assert!(counts(&json!({})).is_err());
    }
}
