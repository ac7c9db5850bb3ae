//! The stages, as a plain list: to add one, add an entry.

mod lint;
mod sdk;
mod supply;
mod testing;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::report::{Report, Verdict};
pub(crate) use crate::stage::Extent;
use crate::stage::{Found, Need, Stage};
use crate::workspace::Workspace;
use crate::{absences, dist};

const CARGO_DENY: Need = Need {
    program: "cargo-deny",
    install: "cargo install --locked cargo-deny@0.20.2",
};
const CHROMIUM: Need = Need {
    program: "chromium",
    install: "apt-get install chromium",
};
const CLIPPY: Need = Need {
    program: "cargo-clippy",
    install: "rustup component add clippy",
};
const DOCKER_COMPOSE: Need = Need {
    program: "docker-compose",
    install: "apt-get install docker-compose",
};
const GIT: Need = Need {
    program: "git",
    install: "apt-get install git",
};
const NODE: Need = Need {
    program: "node",
    install: "apt-get install nodejs (20.19 or newer)",
};
const NPM: Need = Need {
    program: "npm",
    install: "apt-get install npm",
};
/// The server's own programs are in nobody's path; this one comes with them.
const POSTGRESQL: Need = Need {
    program: "pg_createcluster",
    install: "apt-get install postgresql",
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
    Stage::new("fmt", Extent::Quick, &[RUSTFMT], lint::fmt),
    Stage::new("absences", Extent::Quick, &[], absent),
    Stage::new("shell", Extent::Usual, &[GIT, SHELLCHECK], lint::shell),
    Stage::new("compose", Extent::Usual, &[DOCKER_COMPOSE], lint::compose),
    Stage::new("deny", Extent::Usual, &[CARGO_DENY], supply::deny),
    Stage::new(
        "advisories",
        Extent::Usual,
        &[CARGO_DENY],
        supply::advisories,
    ),
    Stage::new("clippy", Extent::Quick, &[CLIPPY], lint::clippy),
    Stage::new("docs", Extent::Usual, &[], lint::docs),
    Stage::new("tests", Extent::Quick, &[], testing::all),
    Stage::new("doctests", Extent::Usual, &[], testing::doc),
    Stage::new(
        "sdk",
        Extent::Usual,
        &[NODE, NPM, CHROMIUM, POSTGRESQL],
        sdk::all,
    ),
    Stage::new("apart", Extent::All, &[], lint::apart),
    Stage::new("dist", Extent::All, &[TAR], tarball),
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

fn absent(workspace: &Workspace, _: Extent) -> Result<Found> {
    absences::check(workspace).map(Found::Well)
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
}
