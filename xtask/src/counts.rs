//! `cargo xtask counts`: how many instructions the hot paths take, held against what is recorded.
//!
//! Instructions and not time: a count is the same on a busy machine, so that a few percent show. What
//! it says nothing of is waiting: the disk, the network, caches, locks.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use crate::process;
use crate::workspace::Workspace;

/// Where the counts are recorded.
const FILE: &str = "benches/counts.toml";
/// The bench program; `benches/hot_paths/main.rs` says how it is asked.
const BENCH: &str = "hot_paths";
/// Callgrind collects inside this function, whatever a mangled name has around it.
const COUNTED: &str = "*counted_by_callgrind*";
/// The C library picks its `memcpy` by the processor, which is 1 % of a count.
const SAME_EVERYWHERE: &str = "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-ERMS,-FSRM,-AVX_Fast_Unaligned_Load,-BMI2,-RTM";
/// Unrelated changes move what the compiler inlines, by less than this.
const TOLERANCE_PERCENT: f64 = 3.0;

/// What the developer asked for.
#[derive(Args)]
pub(crate) struct Counts {
    /// Records what is counted now, with the compiler's version.
    #[arg(long)]
    update: bool,
}

/// The recorded counts, and what they hold for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    /// The first line of `rustc -vV`.
    rustc: String,
    host: String,
    /// Of one batch, by case.
    instructions: BTreeMap<String, u64>,
}

/// Counts every case; false where one is not within the tolerance of what is recorded.
pub(crate) fn run(workspace: &Workspace, counts: &Counts) -> Result<bool> {
    ensure!(
        workspace.has("valgrind"),
        "valgrind is not installed\nhint: apt-get install valgrind"
    );
    let file = workspace.root().join(FILE);
    let (rustc, host) = compiler(workspace)?;
    let program = build(workspace)?;
    let mut counted = Vec::new();
    let names = process::output(workspace.program(&program, &["--list-cases"]))?;
    for name in names.lines() {
        counted.push((name.to_owned(), count(workspace, &program, name)?));
    }
    ensure!(!counted.is_empty(), "{program} has no cases");
    if counts.update {
        fs::write(&file, text(&rustc, &host, &counted)).context(FILE)?;
        print!("{}", table(&counted, &BTreeMap::new()));
        println!("recorded in {FILE}");
        return Ok(true);
    }
    let recorded = read(&file)?;
    print!("{}", table(&counted, &recorded.instructions));
    if (&recorded.rustc, &recorded.host) != (&rustc, &host) {
        println!(
            "NOT COMPARED: {FILE} was counted with {} on {}, this is {rustc} on {host}\n\
             hint: on the commit that changes the compiler, `cargo xtask counts --update` records anew",
            recorded.rustc, recorded.host
        );
        return Ok(true);
    }
    let wrong = complaints(&counted, &recorded.instructions);
    for complaint in &wrong {
        println!("{complaint}");
    }
    if wrong.is_empty() {
        println!("every case is within {TOLERANCE_PERCENT} % of what is recorded");
    } else {
        println!("hint: where that is meant, `cargo xtask counts --update` records it");
    }
    Ok(wrong.is_empty())
}

/// The compiler's version, and what it compiles for.
fn compiler(workspace: &Workspace) -> Result<(String, String)> {
    let said = process::output(workspace.program("rustc", &["-vV"]))?;
    let rustc = said.lines().next().context("rustc -vV says nothing")?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc -vV names no host")?;
    Ok((rustc.to_owned(), host.to_owned()))
}

/// Builds the bench program; says where it is.
fn build(workspace: &Workspace) -> Result<String> {
    let args = |more: &[&'static str]| {
        let mut args = vec!["rustc", "--locked", "--profile", "bench"];
        args.extend(["--package", "evermind-raft", "--bench", BENCH]);
        args.extend(more);
        // Callgrind goes by a name, and some linkers strip names with the debug information.
        args.extend(["--", "-C", "strip=none"]);
        workspace.cargo(&args)
    };
    // Once to be watched, and once, when nothing is left to do, for the answer.
    process::run(args(&[]))?;
    let messages = process::output(args(&["--message-format=json"]))?;
    let built = messages.lines().filter_map(executable).next_back();
    built.with_context(|| format!("cargo names no program of the bench {BENCH}"))
}

fn executable(message: &str) -> Option<String> {
    let message: Value = serde_json::from_str(message).ok()?;
    let ours = message["target"]["name"] == BENCH;
    message["executable"]
        .as_str()
        .filter(|_| ours)
        .map(str::to_owned)
}

/// Runs one case under callgrind.
fn count(workspace: &Workspace, program: &str, name: &str) -> Result<u64> {
    let mut command = workspace.program("valgrind", &["--tool=callgrind"]);
    command
        .env("GLIBC_TUNABLES", SAME_EVERYWHERE)
        .args(["--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .args([program, "--count", name]);
    let output = command.output().context("starting valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!(
            "valgrind ended with {} at {name}:\n{}",
            output.status,
            said.trim()
        );
    }
    match collected(&said) {
        Some(count) if count > 0 => Ok(count),
        _ => bail!("callgrind collected nothing at {name}:\n{}", said.trim()),
    }
}

/// The sum that callgrind says at its end: `==1== Collected : 12345`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains(" Collected :"))?;
    line.split_whitespace().next_back()?.parse().ok()
}

fn read(file: &Path) -> Result<Recorded> {
    let text = fs::read_to_string(file).with_context(|| {
        format!("reading {FILE}\nhint: `cargo xtask counts --update` records the counts")
    })?;
    toml::from_str(&text).context(FILE)
}

fn text(rustc: &str, host: &str, counted: &[(String, u64)]) -> String {
    let mut text = format!(
        "# How many instructions each case of benches/hot_paths takes for one batch of 64.\n\
         # Written by `cargo xtask counts --update`; see docs/benchmarks.md.\n\
         rustc = \"{rustc}\"\nhost = \"{host}\"\n\n[instructions]\n"
    );
    for (name, count) in counted {
        writeln!(text, "\"{name}\" = {count}").expect("writing to a string cannot fail");
    }
    text
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
fn change_percent(counted: u64, recorded: u64) -> f64 {
    (counted as f64 / recorded.max(1) as f64 - 1.0) * 100.0
}

fn table(counted: &[(String, u64)], recorded: &BTreeMap<String, u64>) -> String {
    let mut text = format!(
        "{:<22} {:>12} {:>12} {:>8}\n",
        "CASE", "INSTRUCTIONS", "RECORDED", "CHANGE"
    );
    for (name, count) in counted {
        let (before, change) = match recorded.get(name) {
            Some(before) => (
                before.to_string(),
                format!("{:+.1} %", change_percent(*count, *before)),
            ),
            None => ("-".to_owned(), "-".to_owned()),
        };
        writeln!(text, "{name:<22} {count:>12} {before:>12} {change:>8}")
            .expect("writing to a string cannot fail");
    }
    text
}

/// What is wrong, a line each. Fewer instructions are wrong too: unrecorded, they would hide what is
/// lost of them later.
fn complaints(counted: &[(String, u64)], recorded: &BTreeMap<String, u64>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, count) in counted {
        let Some(before) = recorded.get(name) else {
            wrong.push(format!("{name} is not recorded"));
            continue;
        };
        let change = change_percent(*count, *before);
        if change.abs() > TOLERANCE_PERCENT {
            let way = if change > 0.0 { "more" } else { "fewer" };
            let size = change.abs();
            wrong.push(format!(
                "{name} takes {size:.1} % {way} instructions than are recorded"
            ));
        }
    }
    for name in recorded.keys() {
        if !counted.iter().any(|(counted, _)| counted == name) {
            wrong.push(format!("{name} is recorded, and there is no such case"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(counts: &[(&str, u64)]) -> Vec<(String, u64)> {
        let own = |(name, count): &(&str, u64)| ((*name).to_owned(), *count);
        counts.iter().map(own).collect()
    }

    #[test]
    fn what_is_written_is_read_again() -> Result<()> {
        let counts = counted(&[("b/x", 1), ("a/y", 22)]);
        let read: Recorded = toml::from_str(&text("rustc 1", "h", &counts))?;
        assert_eq!((read.rustc.as_str(), read.host.as_str()), ("rustc 1", "h"));
        assert_eq!(read.instructions, counts.into_iter().collect());
        Ok(())
    }

    #[test]
    fn a_change_beyond_the_tolerance_is_told_and_so_is_what_has_no_counterpart() {
        let recorded = counted(&[
            ("same", 1_000),
            ("more", 1_000),
            ("less", 1_000),
            ("gone", 1),
        ]);
        let now = counted(&[("same", 1_029), ("more", 1_031), ("less", 900), ("new", 1)]);
        let recorded = recorded.into_iter().collect();
        assert_eq!(
            complaints(&now, &recorded),
            [
                "more takes 3.1 % more instructions than are recorded",
                "less takes 10.0 % fewer instructions than are recorded",
                "new is not recorded",
                "gone is recorded, and there is no such case",
            ]
        );
        let table = table(&now, &recorded);
        assert!(
            table.contains("+3.1 %") && table.contains("-10.0 %"),
            "{table}"
        );
    }

    #[test]
    fn the_sum_is_found_in_what_callgrind_says() {
        let said = "==7== Events    : Ir\n==7== Collected : 4711\n==7== \n";
        assert_eq!(collected(said), Some(4_711));
        assert_eq!(collected("==7== \n"), None);
    }
}
