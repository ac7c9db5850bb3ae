//! Words that a crate's own code does not use, its tests apart: a dependency tree cannot show that
//! the standard library's clock, files and threads are left alone.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::lexer::{tokens, without_tests};
use crate::workspace::Workspace;

/// Some sources, and the words that they must not use.
struct Silence {
    /// A directory under the root.
    sources: &'static str,
    words: &'static [&'static str],
    /// Code in which the same search must find every one of the words.
    control: &'static str,
}

const SILENCES: &[Silence] = &[
    // The rules have no clock, no I/O, no threads, nothing asynchronous, and no order that differs
    // from one process to the next.
    Silence {
        sources: "lock/src",
        words: &[
            "Instant",
            "SystemTime",
            "fs",
            "net",
            "thread",
            "async",
            "await",
            "HashMap",
            "HashSet",
            "RandomState",
        ],
        control: "use std::time::{Instant, SystemTime}; use std::{fs, net}; std::thread::sleep(d);
                  use std::collections::{HashMap, HashSet, hash_map::RandomState};
                  async fn now() { later.await }",
    },
    // The HTTP edge speaks of the node only in the node's own words.
    Silence {
        sources: "api/src",
        words: &["openraft", "sled", "evermind_storage"],
        control: "use evermind_storage::codec; use openraft::Raft; let db = sled::open(path)?;",
    },
];

/// Fails on the first word that is used where it must not be; the number is how many files were
/// searched.
pub(super) fn check(workspace: &Workspace) -> Result<usize> {
    let mut searched = 0;
    for silence in SILENCES {
        for word in silence.words {
            ensure!(
                first_use(silence.control, &[word]).is_some(),
                "control: the search does not find {word} where it stands"
            );
        }
        let root = workspace.root().join(silence.sources);
        let files = rust_files(&root)?;
        ensure!(
            files.contains(&root.join("lib.rs")),
            "control: no lib.rs in {}",
            silence.sources
        );
        let tests = test_files(&files)?;
        for file in files.iter().filter(|file| !is_test(file, &tests)) {
            if let Some((word, line)) = first_use(&read(file)?, silence.words) {
                let file = file
                    .strip_prefix(workspace.root())
                    .unwrap_or(file)
                    .display();
                bail!("{file}:{line}: {} must not use `{word}`", silence.sources);
            }
            searched += 1;
        }
    }
    Ok(searched)
}

/// The first of these words that stands in the code, and its line.
fn first_use<'w>(source: &str, words: &[&'w str]) -> Option<(&'w str, usize)> {
    let (code, _) = without_tests(&tokens(source));
    code.iter().find_map(|token| {
        let word = words.iter().find(|word| **word == token.text)?;
        Some((*word, token.line))
    })
}

/// The paths, without extension, of modules that are compiled for tests only.
fn test_files(files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut tests = Vec::new();
    for file in files {
        let source = read(file)?;
        let (_, names) = without_tests(&tokens(&source));
        let stem = file.file_stem().unwrap_or_default();
        let home = match stem.to_str() {
            Some("lib" | "mod" | "main") => file.with_file_name(""),
            _ => file.with_extension(""),
        };
        tests.extend(names.into_iter().map(|name| home.join(name)));
    }
    Ok(tests)
}

fn is_test(file: &Path, tests: &[PathBuf]) -> bool {
    tests
        .iter()
        .any(|test| file.with_extension("") == *test || file.starts_with(test))
}

/// Every `.rs` file under a directory.
pub(super) fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(directory);
    for entry in entries.with_context(|| format!("reading {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

pub(super) fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_in_code_and_not_in_comments_strings_or_tests() {
        let words = ["HashMap", "fs"];
        assert_eq!(
            first_use("// HashMap\nuse std::{fs, io};", &words),
            Some(("fs", 2))
        );
        assert_eq!(
            first_use("let offset = \"fs\"; /* HashMap */", &words),
            None
        );
        assert_eq!(
            first_use("#[cfg(test)]\nmod tests { use std::fs; }", &words),
            None
        );
    }

    #[test]
    fn a_module_of_tests_in_a_file_of_its_own_is_found_beside_its_parent() {
        let tests = [PathBuf::from("src/table/script")];
        assert!(is_test(Path::new("src/table/script.rs"), &tests));
        assert!(is_test(Path::new("src/table/script/runner.rs"), &tests));
        assert!(!is_test(Path::new("src/table/scripted.rs"), &tests));
    }
}
