//! The release tarball: one directory with the binary and what a reader needs beside it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::absences;
use crate::process;
use crate::workspace::Workspace;

/// What lies in the tarball beside the binary.
const PAPERS: [&str; 4] = ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"];

/// Builds the release binary and packs it; then unpacks the tarball and runs what is in it.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    // Before the minutes of a build, not after.
    for paper in PAPERS {
        let paper = workspace.root().join(paper);
        ensure!(
            paper.is_file(),
            "{} is missing, and belongs into the tarball",
            paper.display()
        );
    }
    let target = host(workspace)?;
    let build = [
        "build",
        "--release",
        "--locked",
        "--package",
        "evermind",
        "--bin",
        "evermind",
    ];
    process::run(workspace.cargo(&build))?;

    let name = format!("evermind-{}-{target}", workspace.version()?);
    let binary = workspace.target_dir()?.join("release/evermind");
    absences::check_binary(workspace, &binary)?;
    let dist = workspace.target_dir()?.join("dist");
    let stage = dist.join(&name);
    remove(&stage)?;
    fs::create_dir_all(&stage).with_context(|| format!("making {}", stage.display()))?;
    copy(&binary, &stage.join("evermind"))?;
    for paper in PAPERS {
        copy(&workspace.root().join(paper), &stage.join(paper))?;
    }

    let tarball = dist.join(format!("{name}.tar.gz"));
    pack(workspace, &dist, &name, &tarball)?;
    remove(&stage)?;
    try_out(workspace, &dist, &name, &tarball)?;
    Ok(tarball)
}

/// Packs one directory so that the same files give the same bytes: in the order of their names,
/// nobody's, and dated by the commit.
fn pack(workspace: &Workspace, dist: &Path, name: &str, tarball: &Path) -> Result<()> {
    let date = process::output(workspace.program("git", &["log", "-1", "--format=%ct"]))
        .unwrap_or_else(|_| "0".to_owned());
    let mut tar = workspace.program("tar", &["--create", "--use-compress-program=gzip -n -9"]);
    tar.arg("--file").arg(tarball).arg("--directory").arg(dist);
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg(format!("--mtime=@{}", date.trim())).arg(name);
    process::run(tar)?;

    let mut sum = workspace.program("sha256sum", &[]);
    sum.current_dir(dist).arg(format!("{name}.tar.gz"));
    let sum = process::output(sum)?;
    let file = dist.join(format!("{name}.tar.gz.sha256"));
    fs::write(&file, sum).with_context(|| format!("writing {}", file.display()))
}

/// What a stranger does: check the sum, unpack, ask the binary for its version.
fn try_out(workspace: &Workspace, dist: &Path, name: &str, tarball: &Path) -> Result<()> {
    let mut check = workspace.program("sha256sum", &["--check", "--quiet"]);
    check.current_dir(dist).arg(format!("{name}.tar.gz.sha256"));
    process::run(check)?;

    let trial = dist.join("trial");
    remove(&trial)?;
    fs::create_dir_all(&trial).with_context(|| format!("making {}", trial.display()))?;
    let mut tar = workspace.program("tar", &["--extract", "--file"]);
    tar.arg(tarball).arg("--directory").arg(&trial);
    process::run(tar)?;
    let binary = trial.join(name).join("evermind");
    let said = process::output(workspace.program(&binary.to_string_lossy(), &["--version"]))?;
    let expected = format!("evermind {}", workspace.version()?);
    ensure!(
        said.starts_with(&expected),
        "the binary in the tarball says {said:?} where {expected:?} was expected"
    );
    remove(&trial)
}

/// The target triple of this machine's toolchain.
fn host(workspace: &Workspace) -> Result<String> {
    let said = process::output(workspace.program("rustc", &["-vV"]))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    Ok(())
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        let removed = fs::remove_dir_all(directory);
        removed.with_context(|| format!("removing {}", directory.display()))?;
    }
    Ok(())
}
