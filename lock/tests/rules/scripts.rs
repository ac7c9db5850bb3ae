//! Runs every script in `tests/scripts` and compares what it prints.
//!
//! A script is made of blocks: commands, `---`, what they printed, a blank line. A line that starts
//! with `#` is a comment and stays. See [`crate::script`] for the commands.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::script::Script;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts")
}

/// The script with the output that it has now.
fn rerun(text: &str) -> Result<String, String> {
    let mut script = Script::new();
    let mut now = String::new();
    let mut printed = String::new();
    let mut in_output = false;
    for line in text.lines().chain(std::iter::once("")) {
        if line.is_empty() {
            if !printed.is_empty() {
                writeln!(now, "---\n{}", printed.trim_end()).unwrap();
            }
            printed.clear();
            in_output = false;
            now.push('\n');
        } else if line == "---" {
            in_output = true;
        } else if !in_output {
            writeln!(now, "{line}").unwrap();
            if !line.starts_with('#') {
                let effects = script.run(line).map_err(|why| format!("`{line}`: {why}"))?;
                printed.push_str(&effects);
            }
        }
    }
    Ok(format!("{}\n", now.trim_end()))
}

#[test]
fn scripts_print_what_they_say() {
    let mut names: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no scripts in {}", folder().display());
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut failures = String::new();
    for path in names {
        let before = std::fs::read_to_string(&path).unwrap();
        let now = match rerun(&before) {
            Ok(now) => now,
            Err(why) => {
                writeln!(failures, "{}: {why}", path.display()).unwrap();
                continue;
            }
        };
        if update {
            std::fs::write(&path, now).unwrap();
        } else if now != before {
            writeln!(failures, "{}:", path.display()).unwrap();
            for (number, (was, is)) in before.lines().zip(now.lines()).enumerate() {
                if was != is {
                    writeln!(failures, "  line {}\n  - {was}\n  + {is}", number + 1).unwrap();
                    break;
                }
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{failures}\nrun it again: cargo test -p evermind-lock --test rules scripts\n\
         accept what it prints now: UPDATE_GOLDEN=1 cargo test -p evermind-lock --test rules scripts"
    );
}
