//! Rows without a terminal, and what scripts have at hand.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::until::until_or;
use super::{Runner, said};

/// A row without a terminal takes 2 s at most.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// Functions for the shells of all rows. `say` prints what counts.
pub(super) const LIBRARY: &str = r#"
say() { echo "@@$*"; }
# Waits until a file has something in it.
ready() { local i=0; until [ -s "$1" ]; do sleep 0.02; i=$((i+1)); [ $i -gt 400 ] && { say "no $1"; return 1; }; done; }
state() { sed 's/.*) //; s/ .*//' /proc/$1/stat 2>/dev/null; }
# Says whether a process ends within 3 s.
fate() { local i=0 s; while s=$(state $1); [ -n "$s" ] && [ "$s" != Z ]; do sleep 0.02; i=$((i+1)); [ $i -gt 150 ] && { say "the command lives"; return; }; done; say "the command is gone"; }
# Waits until a process is in a state.
becomes() { local i=0; until [ "$(state $1)" = $2 ]; do sleep 0.02; i=$((i+1)); [ $i -gt 150 ] && { say "not $2 but $(state $1)"; return 1; }; done; }
# Starts a command with the dispositions of a shell's foreground.
start() { env --default-signal=INT,QUIT "$@" & run=$!; }
# Waits until the shell has seen that its job was stopped.
stopped() { until [ -n "$(jobs -s)" ]; do sleep 0.05; done; }
# A command that writes its number and sleeps.
SLEEPER='echo $$ >pid.new; mv pid.new pid; exec sleep 20'
"#;

pub(super) fn play(text: &str, runner: &Runner, dir: &Path, key: &str) -> Vec<String> {
    fs::write(
        dir.join("row.sh"),
        format!(". ./lib.sh 2>/dev/null\n{text}\n"),
    )
    .unwrap();
    let output = dir.join("output");
    // A session of its own: no terminal of whoever runs the tests.
    let mut command = runner.command("setsid", &["bash", "row.sh"], dir, key);
    let file = File::create(&output).unwrap();
    command
        .stdin(std::process::Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file);
    let mut child = command.spawn().expect("setsid and bash are installed");
    let ended = until_or(ENDS_WITHIN, || child.try_wait().unwrap());
    let mut seen = said(&fs::read_to_string(&output).unwrap_or_default());
    if ended.is_none() {
        let _ = child.kill();
        let _ = child.wait();
        seen.push("(the script does not end)".to_owned());
    }
    seen
}

/// Ends what a row left running: each file `*pid` has a process number.
pub(super) fn end_leftovers(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.file_name().to_string_lossy().ends_with("pid")
            && let Ok(text) = fs::read_to_string(entry.path())
            && let Ok(pid) = text.trim().parse::<i32>()
            // Only if it still is of this row.
            && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == *dir)
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
