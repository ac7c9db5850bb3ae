//! The workspace as cargo sees it: where it lies, and the way to run tools in it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;

/// One checkout of Evermind, and what `cargo metadata` says of it.
pub(crate) struct Workspace {
    root: PathBuf,
    cargo: OsString,
    metadata: Value,
}

impl Workspace {
    /// The workspace that this program was built from.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask lies in the workspace's root")?
            .to_owned();
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut workspace = Self {
            root,
            cargo,
            metadata: Value::Null,
        };
        let json = process::output(workspace.cargo(&[
            "metadata",
            "--no-deps",
            "--locked",
            "--format-version=1",
        ]))?;
        workspace.metadata = serde_json::from_str(&json).context("reading cargo's metadata")?;
        Ok(workspace)
    }

    /// The top directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where cargo builds: `target`, unless the caller chose another place.
    pub(crate) fn target_dir(&self) -> Result<PathBuf> {
        let dir = self.metadata["target_directory"].as_str();
        Ok(dir
            .context("cargo's metadata names no target directory")?
            .into())
    }

    /// The workspace's own packages, as cargo's metadata describes them.
    pub(crate) fn packages(&self) -> Result<&[Value]> {
        let packages = self.metadata["packages"].as_array();
        Ok(packages.context("cargo's metadata lists no packages")?)
    }

    /// The version of the package `evermind`.
    pub(crate) fn version(&self) -> Result<&str> {
        self.packages()?
            .iter()
            .find(|package| package["name"] == "evermind")
            .and_then(|package| package["version"].as_str())
            .context("cargo's metadata does not know the package evermind")
    }

    /// `cargo` with these arguments, to be run at the root.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.cargo);
        command
            .current_dir(&self.root)
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Any other program with these arguments, to be run at the root.
    pub(crate) fn program(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.root)
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Whether a program of this name is on the path.
    pub(crate) fn has(&self, program: &str) -> bool {
        let path = env::var_os("PATH").unwrap_or_default();
        let cargo_bin = Path::new(&self.cargo).parent().map(Path::to_owned);
        env::split_paths(&path)
            .chain(cargo_bin)
            .any(|dir| !dir.as_os_str().is_empty() && dir.join(program).is_file())
    }
}
