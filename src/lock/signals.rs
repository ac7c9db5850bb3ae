//! The signals of `lock run`: read instead of handled, so that their dispositions stay what the
//! caller made them. An ignored signal stays ignored, here and in the command.

use std::io;
use std::process::ExitCode;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::sync::mpsc;

/// A signal, and where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) signal: Signal,
    /// Another process sent it. The others come from the kernel: Ctrl-C, Ctrl-Z and a hang-up reach
    /// the command by themselves, because it is in the same process group.
    pub(super) from_process: bool,
    /// Which one.
    pub(super) sender: u32,
}

impl Received {
    /// Whether its default action is to stop.
    pub(super) fn stops(self) -> bool {
        use Signal::{SIGTSTP, SIGTTIN, SIGTTOU};
        matches!(self.signal, SIGTSTP | SIGTTIN | SIGTTOU)
    }

    /// Whether its default action is to do nothing.
    pub(super) fn is_harmless(self) -> bool {
        use Signal::{SIGCHLD, SIGCONT, SIGURG, SIGWINCH};
        matches!(self.signal, SIGCHLD | SIGCONT | SIGURG | SIGWINCH)
    }
}

/// Signals as they come.
pub(super) struct Signals {
    come: mpsc::UnboundedReceiver<Received>,
    /// What was blocked before: the command starts with that.
    blocked_before: Vec<i32>,
}

impl Signals {
    /// From here on signals are read. Threads that were started before must not exist.
    pub(super) fn new() -> io::Result<Self> {
        let before = SigSet::thread_get_mask()?;
        let blocked_before = before.iter().map(|signal| signal as i32).collect();
        let descriptor = blocked(&all_but_ignored(), SfdFlags::empty())?;
        let (sender, come) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || while read(&descriptor).is_some_and(|it| sender.send(it).is_ok()) {})?;
        Ok(Self {
            come,
            blocked_before,
        })
    }

    /// What was blocked before, by number.
    pub(super) fn blocked_before(&self) -> Vec<i32> {
        self.blocked_before.clone()
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Received {
        match self.come.recv().await {
            Some(received) => received,
            None => std::future::pending().await,
        }
    }
}

/// Blocks signals, and gives the descriptor that reads them.
pub(super) fn blocked(set: &SigSet, flags: SfdFlags) -> io::Result<SignalFd> {
    set.thread_block()?;
    Ok(SignalFd::with_flags(set, flags | SfdFlags::SFD_CLOEXEC)?)
}

/// A signal that has come, if any.
pub(super) fn read(descriptor: &SignalFd) -> Option<Received> {
    loop {
        let info = match descriptor.read_signal() {
            Err(nix::errno::Errno::EINTR) => continue,
            Ok(Some(info)) => info,
            Ok(None) | Err(_) => return None,
        };
        let number = i32::try_from(info.ssi_signo).unwrap_or(0);
        if let Ok(signal) = Signal::try_from(number) {
            // sigaction(2): SI_USER is 0 and the others that processes send are below it.
            let from_process = info.ssi_code <= 0;
            return Some(Received {
                signal,
                from_process,
                sender: info.ssi_pid,
            });
        }
    }
}

/// Every signal that can be read, as the caller left its disposition. SIGPIPE belongs to the writes
/// of this process. Real-time signals have no names here: they end this process, and with it the
/// command.
pub(super) fn all_but_ignored() -> SigSet {
    let ignored = ignored();
    let mut set = SigSet::empty();
    for signal in Signal::iterator() {
        let unreadable = matches!(signal, Signal::SIGKILL | Signal::SIGSTOP | Signal::SIGPIPE);
        if !unreadable && ignored & (1 << (signal as u32 - 1)) == 0 {
            set.add(signal);
        }
    }
    set
}

/// The signals of these numbers.
pub(super) fn of_numbers(numbers: impl Iterator<Item = i32>) -> SigSet {
    numbers
        .filter_map(|number| Signal::try_from(number).ok())
        .collect()
}

/// The signals that this process ignores, one bit each: proc(5).
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0)
}

/// Ends this process by a signal, as the command ended: shells and supervisors look at that. A loop
/// or script stops at Ctrl-C because its command died of it.
pub(super) fn die_of(signal: Signal) -> ExitCode {
    // One core, the command's, is enough.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
    // Rust's own handler of SIGSEGV gives way at the first.
    for _ in 0..2 {
        act_on(signal);
    }
    // The first process of a container is spared by its own signals.
    ExitCode::from(128_u8.saturating_add(u8::try_from(signal as i32).unwrap_or(0)))
}

/// Stops this process, as the command was stopped, until it is continued.
pub(super) fn stop_by(signal: Signal) {
    act_on(signal);
}

/// Lets a signal have its default action. One that is pending from elsewhere goes with it: both act
/// at once.
fn act_on(signal: Signal) {
    let mut set = SigSet::empty();
    set.add(signal);
    let was_blocked = SigSet::thread_get_mask().is_ok_and(|mask| mask.contains(signal));
    let _ = raise(signal);
    let _ = set.thread_unblock();
    if was_blocked {
        let _ = set.thread_block();
    }
}
