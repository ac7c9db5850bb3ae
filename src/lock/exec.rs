//! `evermind lock exec`: becomes the command, which then dies with the watch that started it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use super::signals;
use crate::exit::{self, Failure};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The watch
    #[arg(long)]
    parent: i32,
    /// The signals that it starts with blocked
    #[arg(long, value_delimiter = ',', num_args = 0..)]
    blocked: Vec<String>,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(Failure::usage("no command was given"));
    };
    #[cfg(target_os = "linux")]
    die_with(args.parent)?;
    let blocked = args.blocked.iter().filter_map(|signal| signal.parse().ok());
    let restored = signals::of_numbers(blocked).thread_set_mask();
    restored.map_err(|error| Failure::new(format!("cannot unblock signals: {error}")))?;
    // A setuid program, `sudo` say, loses the death signal here; the watch names what it cannot end.
    let error = Command::new(program).args(arguments).exec();
    let failure = Failure::new(format!("cannot run {}: {error}", program.display()));
    Err(match error.kind() {
        std::io::ErrorKind::NotFound => failure
            .code(exit::NOT_FOUND)
            .hint("is it installed, and in PATH?"),
        _ => failure
            .code(exit::NOT_STARTED)
            .hint("is it a program that this user may run?"),
    })
}

#[cfg(target_os = "linux")]
fn die_with(parent: i32) -> Result<(), Failure> {
    use nix::sys::{prctl, signal::Signal};
    let gone = |why: String| Failure::new(format!("cannot run the command: {why}"));
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| gone(error.to_string()))?;
    // It may have died before.
    if nix::unistd::getppid().as_raw() != parent {
        return Err(gone("the process that guards it is gone".to_owned()));
    }
    Ok(())
}
