//! Seeds, spread over worker processes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// A worker that says nothing for so long is stuck.
const SILENCE_MAX: Duration = Duration::from_mins(5);

/// What a worker says of one seed.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line {
    pub(crate) seed: u64,
    pub(crate) clean: bool,
    /// What found something.
    pub(crate) caught_by: Vec<String>,
    #[serde(default)]
    pub(crate) injected: BTreeMap<String, u64>,
    #[serde(default)]
    pub(crate) effects: BTreeMap<String, u64>,
    #[serde(default)]
    pub(crate) stopped: u64,
    #[serde(default)]
    pub(crate) refused: u64,
    #[serde(default, rename = "unsynced_at_cuts")]
    pub(crate) unsynced_at_cuts: u64,
    #[serde(default)]
    pub(crate) starts: u64,
    #[serde(default, rename = "simulated_us")]
    pub(crate) simulated_us: u64,
    #[serde(default, rename = "healed_us")]
    pub(crate) healed_us: u64,
    #[serde(default, rename = "healthy_us")]
    pub(crate) healthy_us: u64,
    #[serde(default)]
    pub(crate) outcome: Outcome,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) broken: Option<String>,
    #[serde(default)]
    pub(crate) verdict: Verdict,
    #[serde(default)]
    pub(crate) grants: u64,
    #[serde(default)]
    pub(crate) entries: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<Violation>,
    pub(crate) undecided: Vec<String>,
    #[serde(default)]
    pub(crate) reached: BTreeMap<String, u64>,
    pub(crate) operations: u64,
    pub(crate) ambiguous: u64,
    pub(crate) resolved: u64,
    pub(crate) windows: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Violation {
    pub(crate) check: String,
    pub(crate) what: String,
}

impl Line {
    /// What was found, in full.
    pub(crate) fn account(&self) -> String {
        if self.clean {
            return "clean".to_owned();
        }
        let verdict = &self.outcome.verdict;
        let mut parts: Vec<String> = self.outcome.broken.iter().cloned().collect();
        parts.extend(
            verdict
                .violations
                .iter()
                .map(|v| format!("{}: {}", v.check, v.what)),
        );
        parts.extend(
            verdict
                .undecided
                .iter()
                .map(|what| format!("undecided: {what}")),
        );
        parts.join("\n  ")
    }
}

/// Which seeds to run, and how.
pub(crate) struct Batch<'a> {
    pub(crate) program: &'a Path,
    pub(crate) from: u64,
    pub(crate) count: u64,
    /// Seeds of one worker process.
    pub(crate) each: u64,
    pub(crate) twice_every: u64,
    pub(crate) until: Option<Instant>,
}

/// Runs seeds on as many workers as there are cores, and hands each one's line over as it comes.
pub(crate) fn run_seeds(batch: &Batch<'_>, mut each: impl FnMut(Line)) -> Result<()> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(0);
    let (lines, received) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..workers {
            let lines = lines.clone();
            let next = &next;
            scope.spawn(move || {
                loop {
                    let done = next.fetch_add(batch.each, Ordering::Relaxed);
                    let over = batch.until.is_some_and(|until| Instant::now() >= until);
                    if done >= batch.count || over {
                        return;
                    }
                    let count = batch.each.min(batch.count - done);
                    let told = worker(batch, batch.from + done, count, |line| {
                        // The receiver lives as long as this scope.
                        let _ = lines.send(Ok(line));
                    });
                    if let Err(error) = told {
                        next.store(u64::MAX / 2, Ordering::Relaxed);
                        let _ = lines.send(Err(error));
                        return;
                    }
                }
            });
        }
        drop(lines);
        for line in received {
            each(line?);
        }
        Ok(())
    })
}

/// Ends a worker that is still there when its thread leaves.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn worker(batch: &Batch<'_>, from: u64, count: u64, mut each: impl FnMut(Line)) -> Result<()> {
    let mut command = Command::new(batch.program);
    command
        .args(["--seed", &from.to_string(), "--count", &count.to_string()])
        .args(["--twice-every", &batch.twice_every.to_string()])
        .stdout(Stdio::piped())
        // A panic is told in its line.
        .stderr(Stdio::null());
    let mut worker = Worker(command.spawn().context("starting the simulator")?);
    let stdout = worker.0.stdout.take();
    let stdout = stdout.context("standard output was piped")?;
    let (lines, received) = mpsc::channel();
    // It ends with the worker's standard output.
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    for seed in from..from + count {
        let line = match received.recv_timeout(SILENCE_MAX) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => bail!(
                "seed {seed} has said nothing for {} s\nhint: cargo xtask sim --seed {seed}",
                SILENCE_MAX.as_secs()
            ),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the simulator ended at seed {seed}\nhint: cargo xtask sim --seed {seed}")
            }
        };
        each(serde_json::from_str(&line).with_context(|| format!("reading {line}"))?);
    }
    Ok(())
}
