//! Dependencies between our own packages run one way: `lock <- storage <- raft <- api <- evermind`.
//! What proves them stands on top of them all, and nothing that is shipped stands on it.

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

/// Above the line, under `tests/`: these may look into everything, and nothing looks into them but
/// one another and the program's own tests.
const PROOFS: [&str; 4] = [
    "evermind-checker",
    "evermind-harness",
    "evermind-sim",
    "evermind-faults",
];

/// One of our packages, one that it depends on, and whether only its tests do.
type Edge = (String, String, Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Shipped,
    TestsOnly,
}

/// Fails on the first edge that runs the wrong way; the number is how many edges there are.
pub(super) fn check(workspace: &Workspace) -> Result<usize> {
    let edges = edges(workspace.packages()?)?;
    for (from, to, kind) in &edges {
        ensure!(
            is_allowed(from, to, *kind),
            "{from} must not depend on {to}: ARCHITECTURE.md says which way"
        );
    }
    for pair in LINE.windows(2) {
        let edge = (pair[1].to_owned(), pair[0].to_owned(), Kind::Shipped);
        ensure!(
            edges.contains(&edge),
            "control: {} was not seen to depend on {}",
            pair[1],
            pair[0]
        );
    }
    Ok(edges.len())
}

fn is_allowed(from: &str, to: &str, kind: Kind) -> bool {
    let rank = |name: &str| LINE.iter().position(|member| *member == name);
    let is_proof = |name: &str| PROOFS.contains(&name);
    if is_proof(to) {
        return is_proof(from) || (from == "evermind" && kind == Kind::TestsOnly);
    }
    if is_proof(from) || kind == Kind::TestsOnly {
        return rank(to).is_some() || to == CLIENT;
    }
    match (rank(from), rank(to)) {
        (Some(from), Some(to)) => to < from,
        _ => from == "evermind" && to == CLIENT,
    }
}

/// Every dependency of one of our packages on another.
fn edges(packages: &[Value]) -> Result<Vec<Edge>> {
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
        for dependency in dependencies {
            let kind = match dependency["kind"].as_str() {
                Some("dev") => Kind::TestsOnly,
                _ => Kind::Shipped,
            };
            let to = name(dependency)?;
            if ours.contains(&to) {
                edges.push((name(package)?, to, kind));
            }
        }
    }
    Ok(edges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ships(from: &str, to: &str) -> bool {
        is_allowed(from, to, Kind::Shipped)
    }

    fn tests_with(from: &str, to: &str) -> bool {
        is_allowed(from, to, Kind::TestsOnly)
    }

    #[test]
    fn the_line_runs_down_only() {
        assert!(ships("evermind-raft", "evermind-storage"));
        assert!(ships("evermind-api", "evermind-lock"));
        assert!(!ships("evermind-storage", "evermind-raft"));
        assert!(!ships("evermind-lock", "evermind-lock"));
    }

    #[test]
    fn the_client_and_the_chores_stand_apart() {
        assert!(ships("evermind", "evermind-client"));
        assert!(!ships("evermind-client", "evermind-lock"));
        assert!(!ships("evermind-api", "evermind-client"));
        assert!(!ships("xtask", "evermind-lock"));
        assert!(!ships("evermind", "xtask"));
    }

    #[test]
    fn what_proves_stands_on_everything_and_nothing_stands_on_it() {
        assert!(ships("evermind-sim", "evermind-checker"));
        assert!(ships("evermind-checker", "evermind-storage"));
        assert!(ships("evermind-faults", "evermind-client"));
        assert!(!ships("evermind-sim", "xtask"));
        assert!(tests_with("evermind", "evermind-checker"));
        assert!(!ships("evermind", "evermind-checker"));
        assert!(!ships("evermind-lock", "evermind-checker"));
        assert!(!tests_with("evermind-lock", "evermind-checker"));
        assert!(!ships("xtask", "evermind-sim"));
    }

    #[test]
    fn what_tests_depend_on_is_told_from_what_ships() {
        let packages: Vec<Value> = serde_json::from_str(
            r#"[{"name":"a","dependencies":[{"name":"b","kind":null},{"name":"c","kind":"dev"}]},
                {"name":"b","dependencies":[{"name":"serde","kind":null}]},
                {"name":"c","dependencies":[]}]"#,
        )
        .expect("valid JSON");
        let edge = |to: &str, kind| ("a".to_owned(), to.to_owned(), kind);
        assert_eq!(
            edges(&packages).expect("edges"),
            [edge("b", Kind::Shipped), edge("c", Kind::TestsOnly)]
        );
    }
}
