//! Programs of the system: they answer at once, or the row fails with what they said.

use std::process::{Command, Stdio};

/// Runs `program` and insists that it succeeds; what it printed.
#[track_caller]
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    match attempt(program, arguments) {
        Ok(output) => output,
        Err(why) => panic!("{program} {}: {why}", arguments.join(" ")),
    }
}

/// Runs `program`; what it printed, or why it failed.
pub(crate) fn attempt(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}", output.status, stderr.trim()))
}
