//! The three ways to run a program: let it speak, take its answer, listen to it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a command that prints straight to the terminal, and insists that it succeeds.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let shown = shown(&command);
    eprintln!("$ {shown}");
    let status = status(&mut command)?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Runs a command that prints straight to the terminal: how it ended.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    let status = command.status();
    status.with_context(|| format!("starting {}", shown(command)))
}

/// Runs a command whose answer is its standard output, and insists that it succeeds.
pub(crate) fn output(mut command: Command) -> Result<String> {
    let shown = shown(&command);
    let output = command.stderr(Stdio::piped()).output();
    let output = output.with_context(|| format!("starting {shown}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{shown}: {}\n{}", output.status, stderr.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{shown}: not UTF-8"))
}

/// Runs a command, shows its standard error while it runs, and hands back that text, without its
/// colours, whether or not the command succeeded.
pub(crate) fn watched(mut command: Command) -> Result<(bool, String)> {
    let shown = shown(&command);
    eprintln!("$ {shown}");
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {shown}"))?;
    let stderr = child.stderr.take().context("standard error was piped")?;
    let mut text = String::new();
    for line in BufReader::new(stderr).split(b'\n') {
        let line = line.with_context(|| format!("reading from {shown}"))?;
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        text.push_str(&plain(&line));
        text.push('\n');
    }
    let status = child
        .wait()
        .with_context(|| format!("waiting for {shown}"))?;
    Ok((status.success(), text))
}

/// A line without the escape sequences that colour it.
fn plain(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    text
}

/// A command as one would type it.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut text = program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_taken_out() {
        assert_eq!(
            plain("\u{1b}[32;1m Summary\u{1b}[0m [1 s] \u{1b}[1m2\u{1b}[0m run"),
            " Summary [1 s] 2 run"
        );
    }
}
