//! `evermind lock watch`: starts the command and ends it when its term is over.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use evermind_client::Moment;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, getppid, getsid};

use super::messages::{self, Leftovers, Order, Report, Term};
use crate::exit::Failure;
use crate::lock::guard::say_leftovers;
use crate::lock::processes::{self, Found};
use crate::lock::signals;

/// How long leftover processes have between SIGTERM and SIGKILL.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);
/// How long the command has to end by itself after the guard's death, within its term.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);
/// How long the kernel may take to end what was killed.
const KILLED_MAX: Duration = Duration::from_secs(2);
/// poll(2) does not count the sleep of the machine; leases do.
const TICK: Duration = Duration::from_millis(200);
/// Nothing tells when the last process below this one ends.
const TICK_AT_THE_END: Duration = Duration::from_millis(10);

pub(in crate::lock) fn run() -> Result<ExitCode, Failure> {
    super::set_name(c"evermind-watch");
    become_subreaper();
    let failed = |error: io::Error| Failure::new(format!("cannot watch the command: {error}"));
    let signals = signals::blocked(&SigSet::all(), SfdFlags::SFD_NONBLOCK).map_err(failed)?;
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let mut watch = Process::start(UnixStream::from(socket)).map_err(failed)?;
    watch.run_to_end(&signals).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// Orphans below this process become its children.
pub(super) fn become_subreaper() {
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_child_subreaper(true);
}

struct Process {
    socket: UnixStream,
    /// Where the guard speaks. For what is left to say when it is gone.
    stderr: OwnedFd,
    received: Vec<u8>,
    command: Pid,
    /// The session of the command. What left it is a daemon.
    session: Pid,
    term: Term,
    /// The command's exit status was taken.
    ended: bool,
    /// The guard is gone, or the lock is: everything below has to end.
    lost: bool,
    /// Until when leftovers may end by themselves.
    patient_until: Option<Moment>,
    /// Until when killed processes may take to end.
    killed_until: Option<Moment>,
    leftovers: Leftovers,
}

impl Process {
    fn start(mut socket: UnixStream) -> io::Result<Self> {
        let stdin = messages::receive_descriptor(&socket)?;
        let mut received = Vec::new();
        let order = loop {
            if let Some(order) = messages::take(&mut received)? {
                break order;
            }
            let mut bytes = [0; 4096];
            match socket.read(&mut bytes)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => received.extend_from_slice(&bytes[..count]),
            }
        };
        let Order::Start {
            words,
            group,
            blocked,
            term,
        } = order
        else {
            return Err(io::Error::other("the first order is not to start"));
        };
        let command = match spawn(words, group, &blocked, stdin) {
            Ok(command) => command,
            Err(error) => {
                socket.write_all(&messages::line(&Report::NotStarted(error.to_string())))?;
                return Err(error);
            }
        };
        let pid = command.as_raw();
        socket.write_all(&messages::line(&Report::Started(pid)))?;
        socket.set_nonblocking(true)?;
        // Pipes and terminals are the command's alone, but for the guard's stderr: a reader waits for the
        // last who may write, and the guard outlives this process.
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        dup2_stderr(&null)?;
        Ok(Self {
            socket,
            stderr,
            received,
            command,
            session: getsid(None)?,
            term,
            ended: false,
            lost: false,
            patient_until: None,
            killed_until: None,
            leftovers: Leftovers::default(),
        })
    }

    fn run_to_end(&mut self, signals: &SignalFd) -> io::Result<()> {
        let mut guarded = true;
        loop {
            self.bury();
            if self.step(Moment::now()) {
                let leftovers = std::mem::take(&mut self.leftovers);
                if !guarded {
                    self.say_for_the_guard(&leftovers);
                }
                self.report(&Report::Done(leftovers));
                return Ok(());
            }
            let wait = self.wait(Moment::now());
            let mut ready = [
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            ];
            // A closed socket is ready for ever.
            let count = if guarded { 2 } else { 1 };
            let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO);
            match poll(&mut ready[..count], timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            while signals::read(signals).is_some() {}
            if guarded && !self.obey() {
                guarded = false;
                let soon = Moment::now().plus(ORPHAN_GRACE);
                self.term = Term::new(Moment::now(), self.term.kill_at().min(soon));
            }
        }
    }

    /// How long nothing has to be done.
    fn wait(&self, now: Moment) -> Duration {
        if self.ended || self.killed_until.is_some() {
            return TICK_AT_THE_END;
        }
        let next = if self.lost {
            self.term.kill_at()
        } else {
            self.term.term_at()
        };
        // poll(2) counts whole milliseconds.
        TICK.min(next.since(now) + Duration::from_millis(1))
    }

    /// Does what is due. Gives true when nothing is left to do.
    fn step(&mut self, now: Moment) -> bool {
        if !self.lost && now >= self.term.term_at() {
            self.lost = true;
            self.ask(&self.targets());
            self.report(&Report::Ending);
        }
        if self.killed_until.is_none() && self.must_kill(now) {
            self.killed_until = Some(now.plus(KILLED_MAX));
        }
        if !self.ended && self.killed_until.is_none() {
            return false;
        }
        let targets = self.targets();
        if self.ended && !self.lost && self.patient_until.is_none() {
            self.patient_until = Some(now.plus(LEFTOVER_GRACE));
            self.leftovers.ended = targets.iter().map(|found| found.process.clone()).collect();
            self.ask(&targets);
        }
        let Some(until) = self.killed_until else {
            return targets.is_empty() && self.close(Vec::new());
        };
        let mut may_end = false;
        for target in &targets {
            may_end |= target.signal(Signal::SIGKILL);
        }
        if targets.is_empty() && !self.ended {
            let _ = kill(self.command, Signal::SIGKILL);
        }
        let over = (targets.is_empty() && self.ended) || now >= until;
        let stuck = !targets.is_empty() && !may_end;
        (over || stuck) && self.close(targets)
    }

    fn must_kill(&self, now: Moment) -> bool {
        (self.lost && now >= self.term.kill_at())
            || self.patient_until.is_some_and(|until| now >= until)
    }

    /// Takes down what is left. Gives true.
    fn close(&mut self, stuck: Vec<Found>) -> bool {
        self.leftovers.stuck = stuck.into_iter().map(|found| found.process).collect();
        let stuck = &self.leftovers.stuck;
        self.leftovers
            .ended
            .retain(|process| !stuck.contains(process));
        let daemons = processes::below(Pid::this()).into_iter();
        self.leftovers.daemons = daemons
            .map(|found| found.process)
            .filter(|process| !self.leftovers.stuck.contains(process))
            .collect();
        true
    }

    /// The processes that have to end.
    fn targets(&self) -> Vec<Found> {
        let below = processes::below(Pid::this()).into_iter();
        below
            .filter(|found| self.lost || found.session == self.session.as_raw())
            .collect()
    }

    /// Asks processes to end, stopped ones too.
    fn ask(&self, targets: &[Found]) {
        if targets.is_empty() && !self.ended {
            // /proc is not there.
            let _ = kill(self.command, Signal::SIGTERM);
            let _ = kill(self.command, Signal::SIGCONT);
        }
        for target in targets {
            target.signal(Signal::SIGTERM);
            target.signal(Signal::SIGCONT);
        }
    }

    /// Takes the exit statuses of children, adopted ones too, and reports what befell the command.
    fn bury(&mut self) {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED | WaitPidFlag::WCONTINUED;
        while let Ok(status) = waitpid(None, Some(flags)) {
            if status == WaitStatus::StillAlive {
                return;
            }
            if status.pid() != Some(self.command) {
                continue;
            }
            let (code, signal) = match status {
                WaitStatus::Exited(_, code) => (Some(code), None),
                WaitStatus::Signaled(_, signal, _) => (None, Some(signal as i32)),
                WaitStatus::Stopped(_, signal) => {
                    self.report(&Report::Stopped(signal as i32));
                    continue;
                }
                WaitStatus::Continued(_) => {
                    wake_guard();
                    continue;
                }
                _ => continue,
            };
            self.ended = true;
            self.report(&Report::Ended { code, signal });
        }
    }

    /// Carries out the orders that have come. Gives false if the guard is gone.
    fn obey(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return false,
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        while let Ok(Some(order)) = messages::take(&mut self.received) {
            match order {
                // Once lost, always lost; but the end may come sooner.
                Order::Term(term) if !self.lost || term.kill_at() < self.term.kill_at() => {
                    self.term = term;
                }
                Order::Signal(signal) if !self.ended => {
                    if let Ok(signal) = Signal::try_from(signal) {
                        let _ = kill(self.command, signal);
                    }
                }
                Order::Continue if !self.ended && Moment::now() < self.term.term_at() => {
                    if is_stopped(self.command) {
                        let _ = kill(self.command, Signal::SIGCONT);
                    }
                }
                Order::Start { .. } | Order::Term(_) | Order::Signal(_) | Order::Continue => {}
            }
        }
        true
    }

    /// Names what could not be ended where the guard, who would, is gone.
    fn say_for_the_guard(&self, leftovers: &Leftovers) {
        if dup2_stderr(&self.stderr).is_ok() {
            say_leftovers(leftovers);
        }
    }

    /// A guard that is gone, or stopped for very long, misses it.
    fn report(&self, report: &Report) {
        let _ = (&self.socket).write_all(&messages::line(report));
    }
}

/// The command was continued by another process: it must not run while the guard is stopped, which
/// is when nothing is extended.
fn wake_guard() {
    let guard = getppid();
    if is_stopped(guard) {
        let _ = kill(guard, Signal::SIGCONT);
    }
}

pub(in crate::lock) fn is_stopped(pid: Pid) -> bool {
    Found::of(pid.as_raw()).is_some_and(|found| found.state == 'T')
}

fn spawn(
    words: Vec<Vec<u8>>,
    group: Option<i32>,
    blocked: &[i32],
    stdin: OwnedFd,
) -> io::Result<Pid> {
    let blocked: Vec<String> = blocked.iter().map(ToString::to_string).collect();
    let mut command = super::this_program("exec");
    command
        .args(["--parent", &Pid::this().to_string()])
        .args(["--blocked", &blocked.join(","), "--"])
        .args(words.into_iter().map(OsString::from_vec))
        .stdin(Stdio::from(stdin));
    if let Some(group) = group {
        command.process_group(group);
    }
    Ok(Pid::from_raw(command.spawn()?.id().cast_signed()))
}
