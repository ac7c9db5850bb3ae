//! What can be said of the text without running it: form, lints, documentation, scripts.

use anyhow::{Result, bail};

use super::well;
use crate::process;
use crate::stage::{Extent, Found};
use crate::workspace::Workspace;

pub(super) fn fmt(workspace: &Workspace, _: Extent) -> Result<Found> {
    well(process::run(workspace.cargo(&["fmt", "--all", "--check"])))
}

pub(super) fn clippy(workspace: &Workspace, _: Extent) -> Result<Found> {
    let args = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    well(process::run(workspace.cargo(&args)))
}

/// The fuzz targets and the peers' bench are workspaces of their own: nothing else here builds them.
pub(super) fn apart(workspace: &Workspace, _: Extent) -> Result<Found> {
    let target_dir = workspace.target_dir()?;
    for (name, flags) in [("fuzz", "--cfg fuzzing"), ("benches/peers", "")] {
        let mut command = workspace.cargo(&["check", "--locked", "--all-targets"]);
        command
            .args(["--manifest-path", &format!("{name}/Cargo.toml")])
            .arg("--target-dir")
            .arg(target_dir.join("apart"));
        if !flags.is_empty() {
            command.env("RUSTFLAGS", flags);
        }
        process::run(command)?;
    }
    Ok(Found::Well("fuzz, benches/peers".into()))
}

/// The documentation with its private parts: that is what is read here, no crate being published. So
/// a public page may point at a private one.
pub(super) fn docs(workspace: &Workspace, _: Extent) -> Result<Found> {
    let mut command = workspace.cargo(&[
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--locked",
    ]);
    command.env(
        "RUSTDOCFLAGS",
        "-D warnings -A rustdoc::private_intra_doc_links",
    );
    well(process::run(command))
}

/// Every shell script in the repository, found by its first line.
pub(super) fn shell(workspace: &Workspace, _: Extent) -> Result<Found> {
    let files = process::output(workspace.program("git", &["ls-files"]))?;
    let scripts: Vec<&str> = files
        .lines()
        .filter(|file| {
            std::fs::read(workspace.root().join(file)).is_ok_and(|bytes| is_shell_script(&bytes))
        })
        .collect();
    if !scripts.contains(&".ci/run") {
        bail!("the search for shell scripts did not even find .ci/run");
    }
    let mut command = workspace.program("shellcheck", &[]);
    command.args(&scripts);
    process::run(command)?;
    Ok(Found::Well(format!("{} scripts", scripts.len())))
}

fn is_shell_script(bytes: &[u8]) -> bool {
    let line = bytes
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    line.starts_with(b"#!") && (line.ends_with(b"sh") || line.ends_with(b"sh -eu"))
}

/// That docker-compose.yml is what Docker would accept; the daemon is not asked.
pub(super) fn compose(workspace: &Workspace, _: Extent) -> Result<Found> {
    let command = workspace.program(
        "docker-compose",
        &["--file", "docker-compose.yml", "config", "--services"],
    );
    let services = process::output(command)?;
    for service in ["keys", "n1", "n2", "n3"] {
        if !services.lines().any(|line| line == service) {
            bail!("docker-compose.yml has no service {service}");
        }
    }
    Ok(Found::Well(format!(
        "{} services",
        services.lines().count()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_script_is_known_by_its_first_line() {
        assert!(is_shell_script(b"#!/usr/bin/env bash\nset -eu\n"));
        assert!(is_shell_script(b"#!/bin/sh\n"));
        assert!(!is_shell_script(b"#!/usr/bin/env node\n"));
        assert!(!is_shell_script(b"name = \"evermind\"\n"));
    }
}
