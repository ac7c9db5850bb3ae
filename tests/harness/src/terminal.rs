//! Commands at a terminal and under signals: what `env COMMAND` does, measured, beside what a
//! command that runs other commands does in the same place.

mod pty;
mod rows;
mod script;

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use super::process::stripped;

/// So many rows run at once. Most of their time is waiting.
const AT_ONCE: usize = 4;

/// What a row does: keys at an interactive shell, or a script without a terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Play {
    Terminal(&'static [Step]),
    Script(&'static str),
}

/// One step at the terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Types a line.
    Type(&'static str),
    /// Presses a key.
    Key(u8),
    /// Waits for a line that `say` printed.
    See(&'static str),
    /// Waits until the process whose number is in the file `pid` is in this state, `-` for gone.
    State(char),
    /// Runs a shell line elsewhere, without the terminal.
    Elsewhere(&'static str),
    /// Gives the terminal another size.
    Resize,
    /// The terminal goes away, as when its window is closed.
    HangUp,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub name: &'static str,
    pub(crate) play: Play,
}

/// A command that runs other commands. `{key}` in it becomes another word in each row.
#[derive(Debug, Clone)]
pub struct Runner {
    pub prefix: String,
    /// What it needs in its environment.
    pub env: Vec<(String, String)>,
}

impl Runner {
    /// What the others are measured against.
    pub fn env_command() -> Self {
        Self {
            prefix: "env".to_owned(),
            env: Vec::new(),
        }
    }

    /// A shell in this folder that knows the prefix as `$RUN`.
    fn command(&self, program: &str, arguments: &[&str], dir: &Path, key: &str) -> Command {
        let mut command = stripped(Command::new(program));
        command
            .args(arguments)
            .current_dir(dir)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env("RUN", self.prefix.replace("{key}", key))
            .env("PS1", "")
            .env("TERM", "dumb")
            .env("HISTFILE", "/dev/null");
        command
    }
}

/// One row of the table, measured.
#[derive(Debug, Clone)]
pub struct Measured {
    pub name: &'static str,
    pub expected: String,
    pub observed: String,
    /// Why this row cannot hold for this runner.
    pub excuse: Option<&'static str>,
}

impl Measured {
    pub fn holds(&self) -> bool {
        self.expected == self.observed
    }
}

/// The measured table. Prints as one.
#[derive(Debug)]
pub struct Table(pub Vec<Measured>);

impl Table {
    /// The rows that differ without an excuse, and those that hold in spite of one.
    pub fn surprises(&self) -> Vec<&Measured> {
        let rows = self.0.iter();
        rows.filter(|row| row.holds() == row.excuse.is_some())
            .collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.0 {
            let mark = match (row.holds(), row.excuse) {
                (true, _) => "as env",
                (false, Some(_)) => "cannot",
                (false, None) => "DIFFERS",
            };
            writeln!(f, "{mark:<8} {:<58} {}", row.name, row.expected)?;
            if !row.holds() {
                writeln!(f, "{:<8} {:<58} {}", "", "  observed", row.observed)?;
            }
            if let Some(excuse) = row.excuse {
                writeln!(f, "{:<8} {:<58} {excuse}", "", "  reason")?;
            }
        }
        Ok(())
    }
}

/// The names of all rows.
pub fn names() -> Vec<&'static str> {
    rows::ROWS.iter().map(|row| row.name).collect()
}

/// Plays the rows whose names contain `filter` with `env` and with the runner. `excuses` names the
/// rows that cannot hold for it, and why.
pub fn measure(runner: &Runner, filter: &str, excuses: &[(&str, &'static str)]) -> Table {
    for (name, _) in excuses {
        assert!(names().contains(name), "an excuse for no row: {name}");
    }
    let rows: Vec<(usize, &Row)> = rows::ROWS
        .iter()
        .enumerate()
        .filter(|(_, row)| row.name.contains(filter))
        .collect();
    let (next, done) = (Mutex::new(rows.iter()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((index, row)) = next.lock().unwrap().next() else {
                        return;
                    };
                    let key = format!("row-{index}");
                    let measured = Measured {
                        name: row.name,
                        expected: play(row, &Runner::env_command(), &key),
                        observed: play(row, runner, &key),
                        excuse: excuses
                            .iter()
                            .find(|(name, _)| *name == row.name)
                            .map(|(_, why)| *why),
                    };
                    done.lock().unwrap().push((*index, measured));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(index, _)| *index);
    Table(done.into_iter().map(|(_, measured)| measured).collect())
}

/// What was seen, as one line.
fn play(row: &Row, runner: &Runner, key: &str) -> String {
    let dir = tempfile::tempdir().expect("a folder for the row");
    fs::write(dir.path().join("lib.sh"), script::LIBRARY).unwrap();
    let seen = match row.play {
        Play::Terminal(steps) => pty::play(steps, runner, dir.path(), key),
        Play::Script(text) => script::play(text, runner, dir.path(), key),
    };
    script::end_leftovers(dir.path());
    seen.join(", ")
}

/// What `say` printed, in its order.
fn said(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| Some(line.split_once("@@")?.1.trim().to_owned()))
        .collect()
}
