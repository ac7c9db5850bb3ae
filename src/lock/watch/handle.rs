//! The watch as the guard has it.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::time::Duration;

use evermind_client::Moment;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stdin, dup2_stdout, getpgrp};
use tokio::net::UnixStream;

use super::messages::{self, Order, Report, Term};
use super::process::become_subreaper;
use crate::lock::processes::{self, Process};

/// How long the kernel may take to end what was killed.
const KILLED_MAX: Duration = Duration::from_secs(2);

/// A running watch.
pub(in crate::lock) struct Watch {
    socket: UnixStream,
    received: Vec<u8>,
    pid: u32,
}

impl Watch {
    /// Starts the watch, and with it the command under these variables, without those named.
    pub(in crate::lock) fn start(
        words: &[OsString],
        set: &[(&str, String)],
        unset: &[&str],
        blocked: Vec<i32>,
        term: Term,
    ) -> io::Result<Self> {
        become_subreaper();
        let (ours, its) = StdStream::pair()?;
        let mut command = super::this_program("watch");
        command.stdin(Stdio::from(OwnedFd::from(its)));
        for name in unset {
            command.env_remove(name);
        }
        command.envs(set.iter().map(|(name, value)| (name, value)));
        let apart = !processes::is_orphaned(Pid::this());
        if apart {
            command.process_group(0);
        }
        let child = command.spawn()?;
        drop(command);
        messages::send_descriptor(&ours, io::stdin())?;
        let start = Order::Start {
            words: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
            group: apart.then(|| getpgrp().as_raw()),
            blocked,
            term,
        };
        io::Write::write_all(&mut &ours, &messages::line(&start))?;
        ours.set_nonblocking(true)?;
        // A reader of the command's output waits for the last who may write.
        let null = File::options().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        Ok(Self {
            socket: UnixStream::from_std(ours)?,
            received: Vec::new(),
            pid: child.id(),
        })
    }

    /// Its process.
    pub(in crate::lock) fn pid(&self) -> u32 {
        self.pid
    }

    /// The next report; none if the watch is gone.
    pub(in crate::lock) async fn next(&mut self) -> Option<Report> {
        loop {
            match messages::take(&mut self.received) {
                Ok(Some(report)) => return Some(report),
                Ok(None) => {}
                Err(_) => return None,
            }
            self.socket.readable().await.ok()?;
            let mut bytes = [0; 4096];
            match self.socket.try_read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }

    /// Gives an order. A watch that cannot take it is gone or hangs, and that is seen elsewhere.
    pub(in crate::lock) fn order(&self, order: &Order) {
        let _ = self.socket.try_write(&messages::line(order));
    }
}

/// Ends everything below this process, after the watch failed. Gives what cannot be ended.
pub(in crate::lock) fn end_all_below() -> Vec<Process> {
    let until = Moment::now().plus(KILLED_MAX);
    loop {
        while !matches!(
            waitpid(None, Some(WaitPidFlag::WNOHANG)),
            Ok(WaitStatus::StillAlive) | Err(_)
        ) {}
        let below = processes::below(Pid::this());
        let mut may_end = false;
        for found in &below {
            may_end |= found.signal(Signal::SIGKILL);
        }
        if !may_end || Moment::now() >= until {
            return below.into_iter().map(|found| found.process).collect();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
