//! Logs, on stderr: stdout is for data.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::settings::LogFormat;
use crate::exit::Failure;
use crate::stderr::Stderr;

/// Starts logging for the whole process.
pub(crate) fn start(format: LogFormat, level: &str) -> Result<(), Failure> {
    // A word alone that is no level would be taken for a module's name, and silence everything else.
    if !level.contains(['=', ',']) && level.parse::<LevelFilter>().is_err() {
        return Err(Failure::usage(format!("--log-level {level:?} is no level"))
            .hint("off, error, warn, info, debug or trace; or as in info,evermind_raft=debug"));
    }
    let filter = EnvFilter::try_new(quiet(level)).map_err(|error| {
        Failure::usage(format!("--log-level {level:?} is not understood: {error}"))
            .hint("for example --log-level debug, or --log-level info,evermind_raft=debug")
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A write that fails is no reason to write that it failed.
        .log_internal_errors(false)
        .with_writer(|| Stderr);
    let started = match format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    started.map_err(|error| Failure::new(format!("cannot start logging: {error}")))
}

/// A dead peer is told once, by the node; consensus would go on telling it twenty times a second.
fn quiet(level: &str) -> String {
    match level {
        "info" | "warn" => format!("{level},openraft=error"),
        level => level.to_owned(),
    }
}
