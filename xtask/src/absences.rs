//! Proves what ARCHITECTURE.md says is absent. Each search is shown to find what is there, so that
//! a name misspelt here, or a crate renamed, cannot pass for an absence.

mod direction;
mod mutants;
mod sources;
mod tree;

use anyhow::Result;

pub(crate) use mutants::check_binary;

use crate::workspace::Workspace;

/// Makes every check; the text says how many.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    let names = tree::check(workspace)?;
    let edges = direction::check(workspace)?;
    let files = sources::check(workspace)?;
    let bugs = mutants::check(workspace)?;
    Ok(format!(
        "{names} names absent, {edges} edges one way, {files} files searched, {bugs} seeded bugs in no release"
    ))
}
