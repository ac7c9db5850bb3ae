//! What others wrote and we build on: which packages, under what terms, from where, how sound.

use anyhow::{Result, bail};

use super::well;
use crate::process;
use crate::stage::{Extent, Found};
use crate::workspace::Workspace;

pub(super) fn deny(workspace: &Workspace, _: Extent) -> Result<Found> {
    let checks = [
        "deny",
        "--workspace",
        "--all-features",
        "--locked",
        "check",
        "--hide-inclusion-graph",
    ];
    let mut command = workspace.cargo(&checks);
    command.args(["bans", "licenses", "sources"]);
    well(process::run(command))
}

/// Known vulnerabilities. The database is a repository of its own, fetched on every run: where it
/// cannot be reached, that is said, and is no failure of this change.
pub(super) fn advisories(workspace: &Workspace, _: Extent) -> Result<Found> {
    let command = workspace.cargo(&[
        "deny",
        "--workspace",
        "--all-features",
        "--locked",
        "check",
        "advisories",
    ]);
    let (passed, text) = process::watched(command)?;
    if passed {
        return Ok(Found::Well(String::new()));
    }
    if text.contains("failed to fetch advisory database") {
        return Ok(Found::Unreachable(
            "NOT CHECKED: no way to the advisory database".into(),
        ));
    }
    bail!("cargo deny found advisories that deny.toml does not excuse");
}
