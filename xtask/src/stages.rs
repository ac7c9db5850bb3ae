//! The stages, as a plain list: to add one, add an entry.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process;
use crate::report::{Report, Verdict};
pub(crate) use crate::stage::Extent;
use crate::stage::{Found, Need, Stage};
use crate::workspace::Workspace;
use crate::{absences, dist};

const CARGO_DENY: Need = Need {
    program: "cargo-deny",
    install: "cargo install --locked cargo-deny@0.20.2",
};
const CLIPPY: Need = Need {
    program: "cargo-clippy",
    install: "rustup component add clippy",
};
const DOCKER_COMPOSE: Need = Need {
    program: "docker-compose",
    install: "apt-get install docker-compose",
};
const RUSTFMT: Need = Need {
    program: "rustfmt",
    install: "rustup component add rustfmt",
};
const SHELLCHECK: Need = Need {
    program: "shellcheck",
    install: "apt-get install shellcheck",
};
const TAR: Need = Need {
    program: "tar",
    install: "apt-get install tar",
};

/// Cheapest first, so that a small slip shows early.
const STAGES: &[Stage] = &[
    Stage {
        name: "fmt",
        from: Extent::Quick,
        needs: &[RUSTFMT],
        run: fmt,
    },
    Stage {
        name: "absences",
        from: Extent::Quick,
        needs: &[],
        run: absent,
    },
    Stage {
        name: "shell",
        from: Extent::Usual,
        needs: &[SHELLCHECK],
        run: shell,
    },
    Stage {
        name: "compose",
        from: Extent::Usual,
        needs: &[DOCKER_COMPOSE],
        run: compose,
    },
    Stage {
        name: "deny",
        from: Extent::Usual,
        needs: &[CARGO_DENY],
        run: deny,
    },
    Stage {
        name: "advisories",
        from: Extent::Usual,
        needs: &[CARGO_DENY],
        run: advisories,
    },
    Stage {
        name: "clippy",
        from: Extent::Quick,
        needs: &[CLIPPY],
        run: clippy,
    },
    Stage {
        name: "docs",
        from: Extent::Usual,
        needs: &[],
        run: docs,
    },
    Stage {
        name: "tests",
        from: Extent::Quick,
        needs: &[],
        run: tests,
    },
    Stage {
        name: "doctests",
        from: Extent::Usual,
        needs: &[],
        run: doctests,
    },
    Stage {
        name: "dist",
        from: Extent::All,
        needs: &[TAR],
        run: tarball,
    },
];

/// Runs the stages of this extent, or those named; goes on after a failure, so that one run shows
/// all that is wrong. False where something failed, or was skipped though nothing may be.
pub(crate) fn run(workspace: &Workspace, extent: Extent, only: &[String]) -> Result<bool> {
    let stages = chosen(extent, only)?;
    let mut report = Report::default();
    for stage in stages {
        if let Some(need) = stage.missing(workspace) {
            let note = format!("no {}; to install it: {}", need.program, need.install);
            eprintln!("== {}: skipped: {note}", stage.name);
            report.add(stage.name, Verdict::Skipped, Duration::ZERO, &note);
            continue;
        }
        eprintln!("== {}", stage.name);
        let start = Instant::now();
        let (verdict, note) = match (stage.run)(workspace, extent) {
            Ok(Found::Well(note)) => (Verdict::Passed, note),
            Ok(Found::Unreachable(note)) => (Verdict::Unreachable, note),
            Err(error) => (Verdict::Failed, format!("{error:#}")),
        };
        let took = start.elapsed();
        let seconds = took.as_secs_f64();
        match verdict {
            Verdict::Failed => eprintln!("== {}: FAILED ({seconds:.1} s): {note}", stage.name),
            _ => eprintln!("== {}: {seconds:.1} s", stage.name),
        }
        report.add(stage.name, verdict, took, &note);
    }
    println!("{}", report.text());
    Ok(report.is_good(extent == Extent::All))
}

fn chosen(extent: Extent, only: &[String]) -> Result<Vec<&'static Stage>> {
    if only.is_empty() {
        return Ok(STAGES.iter().filter(|stage| stage.from <= extent).collect());
    }
    if let Some(unknown) = only
        .iter()
        .find(|name| !STAGES.iter().any(|s| s.name == **name))
    {
        let known: Vec<_> = STAGES.iter().map(|stage| stage.name).collect();
        bail!(
            "no stage is called {unknown}\nhint: the stages are {}",
            known.join(", ")
        );
    }
    Ok(STAGES
        .iter()
        .filter(|stage| only.iter().any(|name| name == stage.name))
        .collect())
}

fn well(result: Result<()>) -> Result<Found> {
    result.map(|()| Found::Well(String::new()))
}

fn fmt(workspace: &Workspace, _: Extent) -> Result<Found> {
    well(process::run(workspace.cargo(&["fmt", "--all", "--check"])))
}

fn absent(workspace: &Workspace, _: Extent) -> Result<Found> {
    absences::check(workspace).map(Found::Well)
}

/// Every shell script in the repository, found by its first line.
fn shell(workspace: &Workspace, _: Extent) -> Result<Found> {
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
fn compose(workspace: &Workspace, _: Extent) -> Result<Found> {
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

fn deny(workspace: &Workspace, _: Extent) -> Result<Found> {
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
fn advisories(workspace: &Workspace, _: Extent) -> Result<Found> {
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

fn clippy(workspace: &Workspace, _: Extent) -> Result<Found> {
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

fn docs(workspace: &Workspace, _: Extent) -> Result<Found> {
    let mut command = workspace.cargo(&[
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--locked",
    ]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    well(process::run(command))
}

/// Unit and integration tests: under nextest where it is, as it runs each test in a process of its
/// own and stops one that hangs; else under `cargo test`, which every toolchain has.
fn tests(workspace: &Workspace, extent: Extent) -> Result<Found> {
    let kinds: &[&str] = if extent == Extent::Quick {
        &["--lib", "--bins"]
    } else {
        &["--lib", "--bins", "--tests"]
    };
    if workspace.has("cargo-nextest") {
        let mut command = workspace.cargo(&["nextest", "run", "--workspace", "--locked"]);
        command.args(kinds).arg("--no-fail-fast");
        return counted(command, "Summary [");
    }
    let mut command = workspace.cargo(&["test", "--workspace", "--locked", "--no-fail-fast"]);
    command.args(kinds);
    well(process::run(command))
}

/// Runs tests, and takes the runner's own last count into the table.
fn counted(command: Command, mark: &str) -> Result<Found> {
    let (passed, text) = process::watched(command)?;
    let summary = text.lines().rev().find_map(|line| line.split_once(mark));
    let (_, summary) = summary.context("the tests did not run to their end")?;
    let counts = summary
        .split_once(']')
        .map_or(summary, |(_, counts)| counts)
        .trim();
    if !passed {
        bail!("{counts}");
    }
    Ok(Found::Well(counts.to_owned()))
}

fn doctests(workspace: &Workspace, _: Extent) -> Result<Found> {
    well(process::run(workspace.cargo(&[
        "test",
        "--workspace",
        "--locked",
        "--doc",
    ])))
}

fn tarball(workspace: &Workspace, _: Extent) -> Result<Found> {
    let tarball = dist::build(workspace)?;
    let bytes = std::fs::metadata(&tarball)?.len();
    let name = tarball
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Ok(Found::Well(format!("{name}, {} KiB", bytes / 1024)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(extent: Extent, only: &[&str]) -> Vec<&'static str> {
        let only: Vec<String> = only.iter().map(ToString::to_string).collect();
        chosen(extent, &only)
            .expect("known names")
            .iter()
            .map(|stage| stage.name)
            .collect()
    }

    #[test]
    fn each_extent_holds_the_one_before() {
        let quick = names(Extent::Quick, &[]);
        let usual = names(Extent::Usual, &[]);
        let all = names(Extent::All, &[]);
        assert!(quick.iter().all(|name| usual.contains(name)));
        assert!(usual.iter().all(|name| all.contains(name)));
        assert_eq!(all.len(), STAGES.len());
        assert_eq!(quick, ["fmt", "absences", "clippy", "tests"]);
    }

    #[test]
    fn only_picks_from_every_extent_and_refuses_a_name_it_does_not_know() {
        assert_eq!(names(Extent::Usual, &["dist", "fmt"]), ["fmt", "dist"]);
        assert!(chosen(Extent::All, &["fnt".to_owned()]).is_err());
    }

    #[test]
    fn a_shell_script_is_known_by_its_first_line() {
        assert!(is_shell_script(b"#!/usr/bin/env bash\nset -eu\n"));
        assert!(is_shell_script(b"#!/bin/sh\n"));
        assert!(!is_shell_script(b"#!/usr/bin/env node\n"));
        assert!(!is_shell_script(b"name = \"evermind\"\n"));
    }
}
