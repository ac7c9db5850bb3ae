//! `cargo xtask fuzz`: what an attacker or a broken disk can send, tried at random.
//!
//! The targets are in `fuzz/`, each with a committed corpus. They are built with the stable toolchain
//! (`RUSTC_BOOTSTRAP=1`: the address sanitizer is behind a flag) into a target directory of their
//! own, because their flags are nobody else's.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::process;
use crate::workspace::Workspace;

/// The targets, as `fuzz/Cargo.toml` names them.
const TARGETS: [&str; 5] = [
    "peer_frames",
    "log_records",
    "snapshots",
    "request_bodies",
    "lock_table",
];
/// Memory that a target may take, in MiB, the sanitizer's own included.
const RSS_LIMIT_MB: &str = "-rss_limit_mb=2048";
/// The longest input: all that any target reads of one, or nearly. From the start, as what is short
/// comes to nothing where an input is a list of steps.
const LENGTH: [&str; 2] = ["-max_len=2048", "-len_control=0"];
/// An input that takes longer hangs.
const TIMEOUT_SECONDS: &str = "-timeout=20";

/// What one target came to.
struct Row {
    target: &'static str,
    executions: String,
    per_second: String,
    /// Inputs of the corpus, and how many more were found.
    corpus: (usize, String),
    crashes: Vec<PathBuf>,
    is_clean: bool,
}

/// Runs each target, or the one, for so many minutes; for none, over its corpus alone. False where
/// an input was found that breaks a promise.
pub(crate) fn run(workspace: &Workspace, minutes: u64, target: Option<&str>) -> Result<bool> {
    ensure!(
        workspace.has("cargo-fuzz"),
        "there is no cargo-fuzz here\nhint: cargo install --locked cargo-fuzz"
    );
    let targets: Vec<&'static str> = TARGETS
        .into_iter()
        .filter(|name| target.is_none_or(|wanted| wanted == *name))
        .collect();
    if targets.is_empty() {
        bail!("there is no such target; there are {}", TARGETS.join(", "));
    }
    let build_dir = workspace.target_dir()?.join("fuzz");
    let mut build = cargo_fuzz(workspace, "build", &build_dir);
    if let [one] = targets[..] {
        build.arg(one);
    }
    process::run(build)?;
    let mut rows = Vec::new();
    for target in targets {
        rows.push(fuzz(workspace, &build_dir, target, minutes)?);
    }
    print!("{}", table(&rows));
    for row in &rows {
        for crash in &row.crashes {
            println!(
                "replay: RUSTC_BOOTSTRAP=1 cargo fuzz run --target-dir {} {} {}",
                build_dir.display(),
                row.target,
                crash.display()
            );
        }
    }
    Ok(rows.iter().all(|row| row.is_clean))
}

fn cargo_fuzz(workspace: &Workspace, verb: &str, build_dir: &Path) -> std::process::Command {
    let mut command = workspace.cargo(&["fuzz", verb, "--sanitizer", "address", "--target-dir"]);
    command
        .arg(build_dir)
        .env("RUSTC_BOOTSTRAP", "1")
        .env_remove("CARGO_TARGET_DIR");
    command
}

/// What is found goes beside the build: the committed corpus changes by hand alone.
fn fuzz(
    workspace: &Workspace,
    build_dir: &Path,
    target: &'static str,
    minutes: u64,
) -> Result<Row> {
    let committed = workspace.root().join("fuzz/corpus").join(target);
    let found = build_dir.join("corpus").join(target);
    fs::create_dir_all(&found).with_context(|| format!("making {}", found.display()))?;
    let artifacts = workspace.root().join("fuzz/artifacts").join(target);
    let before = files(&artifacts)?;

    let mut command = cargo_fuzz(workspace, "run", build_dir);
    command.arg(target).arg(&found).arg(&committed).arg("--");
    command.args([RSS_LIMIT_MB, TIMEOUT_SECONDS]).args(LENGTH);
    command.args(["-print_final_stats=1", "-verbosity=0"]);
    command.arg(match minutes {
        0 => "-runs=0".to_owned(),
        minutes => format!("-max_total_time={}", minutes * 60),
    });
    let (is_clean, said) = process::watched(command)?;
    let mut crashes = files(&artifacts)?;
    crashes.retain(|file| !before.contains(file));
    let inputs = files(&committed)?.len();
    ensure!(inputs > 0, "{} has no inputs", committed.display());
    Ok(Row {
        target,
        executions: stat(&said, "number_of_executed_units"),
        per_second: stat(&said, "average_exec_per_sec"),
        corpus: (inputs, stat(&said, "new_units_added")),
        crashes,
        is_clean,
    })
}

/// One of libFuzzer's final numbers; `?` where it did not come to print them.
fn stat(said: &str, name: &str) -> String {
    let line = said.lines().find_map(|line| {
        let (key, value) = line.strip_prefix("stat::")?.split_once(':')?;
        (key == name).then(|| value.trim().to_owned())
    });
    line.unwrap_or_else(|| "?".into())
}

/// The files of a directory; none where there is no such directory.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}

fn table(rows: &[Row]) -> String {
    let mut lines = vec![format!(
        "\n{:15}  {:>10}  {:>7}  {:>6}  {:>6}  {:>7}",
        "target", "executions", "exec/s", "corpus", "found", "crashes"
    )];
    for row in rows {
        let (inputs, found) = &row.corpus;
        // A target can also end without an input to show for it.
        let crashes = match row.crashes.len() {
            0 if !row.is_clean => "failed".into(),
            count => count.to_string(),
        };
        lines.push(format!(
            "{:15}  {:>10}  {:>7}  {inputs:>6}  {found:>6}  {crashes:>7}",
            row.target, row.executions, row.per_second
        ));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_final_numbers_are_read() {
        let said =
            "Done\nstat::number_of_executed_units: 25355\nstat::average_exec_per_sec:     1207\n";
        assert_eq!(stat(said, "number_of_executed_units"), "25355");
        assert_eq!(stat(said, "average_exec_per_sec"), "1207");
        assert_eq!(stat(said, "peak_rss_mb"), "?");
    }

    #[test]
    fn a_target_that_ends_without_a_crashing_input_is_no_clean_one() {
        let row = |is_clean| Row {
            target: "snapshots",
            executions: "?".into(),
            per_second: "?".into(),
            corpus: (3, "?".into()),
            crashes: Vec::new(),
            is_clean,
        };
        assert!(table(&[row(false)]).contains("failed"));
        assert!(!table(&[row(true)]).contains("failed"));
    }

    #[test]
    fn every_target_of_the_manifest_is_run() {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/Cargo.toml");
        let manifest = fs::read_to_string(manifest).expect("fuzz/ is there");
        let names = manifest.lines().filter_map(|line| {
            let path = line.strip_prefix("path = \"fuzz_targets/")?;
            path.strip_suffix(".rs\"")
        });
        let names: Vec<&str> = names.filter(|name| *name != "seeds").collect();
        assert_eq!(names, TARGETS);
    }
}
