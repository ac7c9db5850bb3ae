//! Dependencies between our own packages run one way: `lock <- storage <- raft <- api <- evermind`.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::workspace::Workspace;

/// The line, lowest first: a package may depend only on those before it.
const LINE: [&str; 5] = [
    "evermind-lock",
    "evermind-storage",
    "evermind-raft",
    "evermind-api",
    "evermind",
];

/// Beside the line: a client speaks HTTP only, and knows nothing of the server's insides.
const CLIENT: &str = "evermind-client";

/// Fails on the first edge that runs the wrong way; the number is how many edges there are.
pub(super) fn check(workspace: &Workspace) -> Result<usize> {
    let edges = edges(workspace.packages()?)?;
    for (from, to) in &edges {
        ensure!(
            is_allowed(from, to),
            "{from} must not depend on {to}: ARCHITECTURE.md says which way"
        );
    }
    for pair in LINE.windows(2) {
        let edge = (pair[1].to_owned(), pair[0].to_owned());
        ensure!(
            edges.contains(&edge),
            "control: {} was not seen to depend on {}",
            pair[1],
            pair[0]
        );
    }
    Ok(edges.len())
}

fn is_allowed(from: &str, to: &str) -> bool {
    let rank = |name: &str| LINE.iter().position(|member| *member == name);
    match (rank(from), rank(to)) {
        (Some(from), Some(to)) => to < from,
        _ => from == "evermind" && to == CLIENT,
    }
}

/// Every dependency of one of our packages on another, tests' own ones apart.
fn edges(packages: &[Value]) -> Result<Vec<(String, String)>> {
    let name = |value: &Value| {
        value["name"]
            .as_str()
            .map(ToOwned::to_owned)
            .context("a package without a name")
    };
    let ours = packages.iter().map(name).collect::<Result<Vec<_>>>()?;
    let mut edges = Vec::new();
    for package in packages {
        let dependencies = package["dependencies"]
            .as_array()
            .context("no dependencies listed")?;
        for dependency in dependencies
            .iter()
            .filter(|dependency| dependency["kind"] != "dev")
        {
            let to = name(dependency)?;
            if ours.contains(&to) {
                edges.push((name(package)?, to));
            }
        }
    }
    Ok(edges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_runs_down_only() {
        assert!(is_allowed("evermind-raft", "evermind-storage"));
        assert!(is_allowed("evermind-api", "evermind-lock"));
        assert!(!is_allowed("evermind-storage", "evermind-raft"));
        assert!(!is_allowed("evermind-lock", "evermind-lock"));
    }

    #[test]
    fn the_client_and_the_chores_stand_apart() {
        assert!(is_allowed("evermind", "evermind-client"));
        assert!(!is_allowed("evermind-client", "evermind-lock"));
        assert!(!is_allowed("evermind-api", "evermind-client"));
        assert!(!is_allowed("xtask", "evermind-lock"));
        assert!(!is_allowed("evermind", "xtask"));
    }

    #[test]
    fn dev_dependencies_are_not_edges() {
        let packages: Vec<Value> = serde_json::from_str(
            r#"[{"name":"a","dependencies":[{"name":"b","kind":null},{"name":"c","kind":"dev"}]},
                {"name":"b","dependencies":[{"name":"serde","kind":null}]},
                {"name":"c","dependencies":[]}]"#,
        )
        .expect("valid JSON");
        assert_eq!(
            edges(&packages).expect("edges"),
            [("a".to_owned(), "b".to_owned())]
        );
    }
}
