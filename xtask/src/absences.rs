//! Proves what ARCHITECTURE.md says is absent. Each search is shown to find what is there, so that
//! a name misspelt here, or a crate renamed, cannot pass for an absence.

mod direction;
mod sources;
mod tree;

use anyhow::Result;

use crate::workspace::Workspace;

/// Makes every check; the text says how many.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    let names = tree::check(workspace)?;
    let edges = direction::check(workspace)?;
    let files = sources::check(workspace)?;
    Ok(format!(
        "{names} names absent, {edges} edges one way, {files} files searched"
    ))
}
