//! The process between `lock run` and its command.
//!
//! ```text
//! shell -- guard (`evermind lock run`) -- watch (`evermind lock watch`) -- the command -- …
//!                 `-- canary
//! ```
//!
//! The guard talks to the cluster and to people. The watch ends the command when its term is over,
//! and does nothing else before: no network, no output, no terminal. So nothing that befalls the guard lets
//! the command run on: not SIGKILL, a panic, a stop, nor a write that fails or blocks.
//!
//! - The command is in the guard's process group and session, as if `env` had started it: the
//!   terminal's keys, job control, pipelines and `/dev/tty` work without anyone's doing.
//! - The watch has a process group of its own, so that a signal to the job does not take it along,
//!   and blocks all signals. Only where no shell could continue the job (the group is orphaned) it
//!   stays in the guard's group: it would make the group one that Ctrl-Z stops.
//! - The watch is a subreaper: all that the command starts stays below it, daemons too. It takes
//!   their exit statuses, and finds them in /proc to end them.
//! - The guard closes its end of the socket by dying, and the watch ends the command. The command
//!   has SIGKILL as its death signal, and the guard is a subreaper too: the watch dying ends
//!   everything as well. What is left: processes of another user (`sudo`), which nobody but root may
//!   signal. They are named, by the watch at its end if the guard is gone.
//! - The guard stops when the command stops, so that the shell takes over, and dies of the signal
//!   that its command died of. A signal that another process sent to the guard is passed on, unless
//!   it was sent to the whole group: the canary, a member of the group, tells.

mod canary;
mod handle;
mod messages;
mod process;

pub(super) use canary::{Canary, run as run_canary};
pub(super) use handle::{Watch, end_all_below};
pub(super) use messages::{Leftovers, Order, Report, Term};
pub(super) use process::{is_stopped, run};

use std::process::Command;

/// This program again, though its file may have been replaced meanwhile.
fn this_program(name: &str) -> Command {
    use std::os::unix::process::CommandExt as _;
    let path = if cfg!(target_os = "linux") {
        "/proc/self/exe".into()
    } else {
        std::env::current_exe().unwrap_or_else(|_| "evermind".into())
    };
    let mut command = Command::new(path);
    command.arg0("evermind").args(["lock", name]);
    command
}

/// The name that `ps` and `top` show, where it would be `exe`.
fn set_name(name: &std::ffi::CStr) {
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_name(name);
    #[cfg(not(target_os = "linux"))]
    let _ = name;
}
