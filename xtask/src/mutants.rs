//! `cargo xtask mutants`: the seeded bugs, each of which the simulator must find.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;

use crate::process;
use crate::sim;
use crate::workspace::Workspace;

/// What to try.
#[derive(Debug, Args)]
pub(crate) struct Mutants {
    /// Seeds at most for each.
    #[arg(long, default_value_t = 400)]
    seeds: u64,
    /// Only these; all by default.
    name: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Mutant {
    name: String,
    about: String,
}

/// How one was found.
struct Found {
    seeds: u64,
    by: Vec<String>,
}

impl Mutants {
    /// Runs seeds with each bug until it is found; false where one is not. A run without any bug
    /// must be clean: that is `cargo xtask sim`, of the same binary.
    pub(crate) fn run(&self, workspace: &Workspace) -> Result<bool> {
        let program = sim::build(workspace)?;
        let mut list = Command::new(&program);
        list.arg("--list-mutants");
        let mut all = Vec::new();
        for line in process::output(list)?.lines() {
            all.push(serde_json::from_str::<Mutant>(line).context("the list of mutants")?);
        }
        for name in &self.name {
            if !all.iter().any(|mutant| mutant.name == *name) {
                let names: Vec<&str> = all.iter().map(|mutant| mutant.name.as_str()).collect();
                bail!(
                    "there is no mutant {name}\nhint: one of {}",
                    names.join(", ")
                );
            }
        }
        all.retain(|mutant| self.name.is_empty() || self.name.contains(&mutant.name));
        let found = self.try_all(&program, &all)?;
        let width = all
            .iter()
            .map(|mutant| mutant.name.len())
            .max()
            .unwrap_or(0);
        println!("{:width$}  {:>5}  caught by", "mutant", "seeds");
        let mut missed = 0;
        for mutant in &all {
            let Some(found) = &found[&mutant.name] else {
                missed += 1;
                println!(
                    "{:width$}  {:>5}  NOT CAUGHT: {}",
                    mutant.name, self.seeds, mutant.about
                );
                continue;
            };
            let by = found.by.join(", ");
            println!("{:width$}  {:>5}  {by}", mutant.name, found.seeds);
        }
        println!("mutants: {} of {} caught", all.len() - missed, all.len());
        Ok(missed == 0)
    }

    fn try_all(&self, program: &Path, all: &[Mutant]) -> Result<BTreeMap<String, Option<Found>>> {
        let queue: Mutex<VecDeque<&Mutant>> = Mutex::new(all.iter().collect());
        let found = Mutex::new(BTreeMap::new());
        let workers = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for _ in 0..workers {
                threads.push(scope.spawn(|| -> Result<()> {
                    loop {
                        let next = queue
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .pop_front();
                        let Some(mutant) = next else { return Ok(()) };
                        let how = self.try_one(program, &mutant.name)?;
                        eprintln!(
                            "{}: {}",
                            mutant.name,
                            if how.is_some() {
                                "caught"
                            } else {
                                "NOT CAUGHT"
                            }
                        );
                        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                        found.insert(mutant.name.clone(), how);
                    }
                }));
            }
            for thread in threads {
                match thread.join() {
                    Ok(ended) => ended?,
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok::<_, anyhow::Error>(())
        })?;
        Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn try_one(&self, program: &Path, name: &str) -> Result<Option<Found>> {
        let mut command = Command::new(program);
        command
            .args([
                "--seed",
                "1",
                "--count",
                &self.seeds.to_string(),
                "--until-found",
            ])
            .env("EVERMIND_MUTANT", name);
        let text = process::output(command)?;
        let seeds = text.lines().count() as u64;
        let last = text.lines().last().context("the simulator said nothing")?;
        let line: sim::Line =
            serde_json::from_str(last).with_context(|| format!("reading {last}"))?;
        if line.clean {
            return Ok(None);
        }
        // What is found without the bug as well is no find.
        let mut without = Command::new(program);
        without.args(["--seed", &line.seed.to_string()]);
        let text = process::output(without)?;
        let sound: sim::Line = serde_json::from_str(text.trim()).context("the sound run")?;
        if !sound.clean {
            bail!(
                "seed {} is not clean without any bug\nhint: cargo xtask sim --seed {}",
                line.seed,
                line.seed
            );
        }
        Ok(Some(Found {
            seeds,
            by: line.caught_by,
        }))
    }
}
