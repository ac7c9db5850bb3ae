//! A command and all that it starts: one process group.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use tokio::sync::mpsc;

/// How long leftover processes have between SIGTERM and SIGKILL.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);
/// How long the kernel may take to end what was killed.
const KILLED_MAX: Duration = Duration::from_secs(2);

/// What befell the command itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Stopped by a signal, Ctrl-Z say.
    Stopped,
    /// Ended.
    Ended,
}

/// A running command as the leader of its process group.
pub(super) struct Group {
    child: Child,
    id: Pid,
    changes: mpsc::UnboundedReceiver<Change>,
}

impl Group {
    /// Starts a command in a group of its own.
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        adopt_orphans();
        let child = command.process_group(0).spawn()?;
        let id = Pid::from_raw(child.id().cast_signed());
        let (sender, changes) = mpsc::unbounded_channel();
        std::thread::spawn(move || watch(id, &sender));
        Ok(Self { child, id, changes })
    }

    /// The group's id.
    pub(super) fn id(&self) -> Pid {
        self.id
    }

    /// The next change. After [`Change::Ended`] there is none.
    pub(super) async fn changed(&mut self) -> Change {
        self.changes.recv().await.unwrap_or(Change::Ended)
    }

    /// Sends a signal to every process of the group. One that has gone needs none.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = killpg(self.id, signal);
    }

    /// Asks every process to end, stopped ones too.
    pub(super) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
        self.signal(Signal::SIGCONT);
    }

    /// After the command ended: takes its exit status, and ends what it left running. Returns when
    /// the whole group is gone, or was killed and the kernel has not buried it in 2 s.
    pub(super) async fn finish(mut self, patient: bool) -> io::Result<ExitStatus> {
        if !patient {
            self.signal(Signal::SIGKILL);
        }
        // The command is dead, so this does not block. From here on only living members keep the
        // group's id from being used again.
        let status = self.child.wait()?;
        if !self.is_gone() && patient {
            self.terminate();
            self.until_gone(LEFTOVER_GRACE).await;
        }
        if !self.is_gone() {
            self.signal(Signal::SIGKILL);
            self.until_gone(KILLED_MAX).await;
        }
        Ok(status)
    }

    fn is_gone(&self) -> bool {
        killpg(self.id, None) == Err(Errno::ESRCH)
    }

    /// Takes the exit statuses of dead members that fell to us as orphans.
    fn bury(&self) {
        let members = Pid::from_raw(-self.id.as_raw());
        while let Ok(status) = waitpid(members, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                return;
            }
        }
    }

    /// Nothing tells when a group is empty, so it is asked.
    async fn until_gone(&self, limit: Duration) {
        let gone = async {
            while !self.is_gone() {
                self.bury();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = tokio::time::timeout(limit, gone).await;
    }
}

/// Makes this process the one that buries what the command leaves behind. Where init does not (in
/// many containers), a dead member would look like a living one.
fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_child_subreaper(true) {
        tracing::debug!(%error, "orphans are left to init");
    }
}

/// Tells what befalls the command, leaving it unburied: its id, which is the group's, cannot be
/// used again until [`Group::finish`].
fn watch(id: Pid, sender: &mpsc::UnboundedSender<Change>) {
    let peek = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT;
    loop {
        let change = match waitid(Id::Pid(id), peek) {
            Err(Errno::EINTR) => continue,
            Ok(WaitStatus::Stopped(..)) => {
                // Takes the news off, or it would be told again and again.
                let _ = waitid(Id::Pid(id), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG);
                Change::Stopped
            }
            _ => Change::Ended,
        };
        if sender.send(change).is_err() || change == Change::Ended {
            return;
        }
    }
}

/// What a shell would make of it: the code, or 128 + the signal.
pub(super) fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(crate::exit::OTHER)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn gives_the_commands_code() {
        for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)] {
            let mut group = Group::start(sh(script)).unwrap();
            assert_eq!(group.changed().await, Change::Ended);
            assert_eq!(
                exit_code(group.finish(true).await.unwrap()),
                code,
                "{script}"
            );
        }
    }

    #[tokio::test]
    async fn takes_what_the_command_left_running_with_it() {
        let mut group = Group::start(sh("sleep 600 & sleep 600 & exit 3")).unwrap();
        let id = group.id();
        assert_eq!(group.changed().await, Change::Ended);
        assert_eq!(exit_code(group.finish(true).await.unwrap()), 3);
        // Members may wait for init to bury them, but none lives.
        assert!(alive(id).is_empty(), "{:?}", alive(id));
    }

    #[tokio::test]
    async fn kills_what_does_not_listen() {
        let script = "trap '' TERM; echo ready; sleep 600; exit 0";
        let mut command = sh(script);
        command.stdout(std::process::Stdio::piped());
        let mut group = Group::start(command).unwrap();
        let mut ready = [0; 6];
        io::Read::read_exact(group.child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        group.terminate();
        group.signal(Signal::SIGKILL);
        assert_eq!(group.changed().await, Change::Ended);
        assert_eq!(exit_code(group.finish(false).await.unwrap()), 137);
    }

    #[tokio::test]
    async fn tells_of_a_stop_once() {
        let mut group = Group::start(sh("kill -STOP $$; exit 4")).unwrap();
        assert_eq!(group.changed().await, Change::Stopped);
        group.signal(Signal::SIGCONT);
        assert_eq!(group.changed().await, Change::Ended);
        assert_eq!(exit_code(group.finish(true).await.unwrap()), 4);
    }

    /// The group's processes that are not zombies, from /proc.
    fn alive(group: Pid) -> Vec<String> {
        let stats = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok());
        stats
            .filter(|stat| {
                let fields: Vec<_> = stat
                    .rsplit(')')
                    .next()
                    .unwrap_or_default()
                    .split_whitespace()
                    .collect();
                fields.first() != Some(&"Z") && fields.get(2) == Some(&group.to_string().as_str())
            })
            .collect()
    }
}
