//! Which packages a package does not reach: `cargo tree -e normal --prefix none`, searched by name.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};

use crate::process;
use crate::workspace::Workspace;

/// One package, and what its tree must not hold.
struct Absence {
    package: &'static str,
    /// How far the tree is followed: to its ends, or to what the package itself names.
    depth: Depth,
    absent: &'static [&'static str],
    /// Names that the same search must find in the same tree.
    control: &'static [&'static str],
}

#[derive(Clone, Copy)]
enum Depth {
    Whole,
    Direct,
}

const ABSENCES: &[Absence] = &[
    Absence {
        package: "evermind-lock",
        depth: Depth::Whole,
        absent: &[
            "tokio",
            "openraft",
            "sled",
            "rand",
            "getrandom",
            "bincode",
            "hyper",
            "axum",
            "tracing",
        ],
        control: &["serde", "thiserror"],
    },
    Absence {
        package: "evermind-storage",
        depth: Depth::Whole,
        absent: &["axum", "hyper"],
        control: &["evermind-lock", "openraft", "sled", "bincode"],
    },
    Absence {
        package: "evermind-raft",
        depth: Depth::Whole,
        absent: &["axum", "hyper", "serde_json"],
        control: &["evermind-storage", "openraft", "tokio", "sled"],
    },
    // The API reaches sled and openraft through the node it serves, as everything above the node
    // must. What is absent is the name: it does not depend on them itself, and `sources` proves
    // that its code does not speak of them.
    Absence {
        package: "evermind-api",
        depth: Depth::Direct,
        absent: &["sled", "openraft", "bincode", "evermind-storage"],
        control: &["evermind-raft", "axum", "hyper"],
    },
    Absence {
        package: "evermind-client",
        depth: Depth::Whole,
        absent: &[
            "evermind-lock",
            "evermind-storage",
            "evermind-raft",
            "evermind-api",
            "openraft",
            "sled",
            "axum",
        ],
        control: &["hyper", "serde_json"],
    },
];

/// Fails on the first name that is where it must not be; the number is how many are absent.
pub(super) fn check(workspace: &Workspace) -> Result<usize> {
    // Every name that must be absent somewhere is a package of the whole program: this is what
    // catches `opneraft`.
    let whole = reached(workspace, "evermind", Depth::Whole)?;
    for absence in ABSENCES {
        for name in absence.absent {
            ensure!(
                whole.contains(*name),
                "control: {name} is nowhere in evermind's tree\n\
                 hint: it is misspelt in xtask/src/absences/tree.rs, or no longer used at all"
            );
        }
    }
    let mut absent = 0;
    for absence in ABSENCES {
        let tree = reached(workspace, absence.package, absence.depth)?;
        for name in absence.control {
            ensure!(
                tree.contains(*name),
                "control: the search did not find {name}, which {} depends on",
                absence.package
            );
        }
        for name in absence.absent {
            if tree.contains(*name) {
                bail!(
                    "{} must not reach {name}, and does\nhint: cargo tree -e normal -p {} -i {name}",
                    absence.package,
                    absence.package
                );
            }
            absent += 1;
        }
    }
    Ok(absent)
}

/// The names of the packages that a package reaches by normal dependencies.
fn reached(workspace: &Workspace, package: &str, depth: Depth) -> Result<BTreeSet<String>> {
    let mut command = workspace.cargo(&[
        "tree", "--locked", "-e", "normal", "--prefix", "none", "-p", package,
    ]);
    if let Depth::Direct = depth {
        command.args(["--depth", "1"]);
    }
    Ok(names(&process::output(command)?))
}

/// The names in what `cargo tree --prefix none` prints, one package a line.
fn names(tree: &str) -> BTreeSet<String> {
    tree.lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(ToOwned::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_whole_first_word() {
        let names =
            names("evermind-lock v0.1.0 (/src/lock)\nserde_core v1.0.0\nserde v1.0.0 (*)\n");
        assert!(names.contains("serde"));
        assert!(names.contains("evermind-lock"));
        assert!(!names.contains("evermind"));
        assert!(!names.contains("lock"));
    }
}
