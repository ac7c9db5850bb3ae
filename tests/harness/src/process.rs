//! One `evermind serve` process.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::until::until_or;

/// The program under test: what `EVERMIND_BIN` names, or what cargo built beside this program.
pub static EVERMIND: LazyLock<PathBuf> = LazyLock::new(|| {
    if let Some(path) = std::env::var_os("EVERMIND_BIN") {
        return path.into();
    }
    let this = std::env::current_exe().expect("a running program has a path");
    let dir = this.parent().expect("a program lies in a directory");
    // Cargo puts tests one level below the programs.
    let dir = match dir.parent() {
        Some(above) if dir.ends_with("deps") => above,
        _ => dir,
    };
    dir.join("evermind")
});

/// A node's process, which comes and goes, and what stays of it: its address, data and log.
#[derive(Debug)]
pub struct NodeProcess {
    pub id: u64,
    pub http: SocketAddr,
    pub data_dir: PathBuf,
    pub log: PathBuf,
    pub arguments: Vec<OsString>,
    child: Mutex<Option<Child>>,
}

impl NodeProcess {
    pub fn new(
        id: u64,
        http: SocketAddr,
        data_dir: PathBuf,
        log: PathBuf,
        arguments: Vec<OsString>,
    ) -> Self {
        Self {
            id,
            http,
            data_dir,
            log,
            arguments,
            child: Mutex::new(None),
        }
    }

    /// Starts the process; its log goes on in the same file.
    pub fn start(&self) {
        self.start_as(evermind());
    }

    /// Starts the process with another value of a flag.
    pub fn start_with(&self, flag: &str, value: &str) {
        let mut arguments = self.arguments.clone();
        let at = arguments.iter().position(|argument| argument == flag);
        arguments[at.expect("a flag of every node") + 1] = value.into();
        self.spawn(evermind(), &arguments);
    }

    /// Starts the process by a command of the caller's making, to which the arguments are added.
    pub fn start_as(&self, command: Command) {
        self.spawn(command, &self.arguments);
    }

    fn spawn(&self, mut command: Command, arguments: &[OsString]) {
        let mut child = self.child.lock().unwrap();
        assert!(child.is_none(), "node {} runs already", self.id);
        let log = open_log(&self.log);
        // The pipe on its stdin closes when this process ends, however it ends: no node is left
        // behind. `Child` holds our end of it.
        command
            .args(arguments)
            .arg("--stop-with-stdin")
            .stdin(Stdio::piped());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        *child = Some(
            command
                .spawn()
                .unwrap_or_else(|e| panic!("starting {command:?}: {e}")),
        );
    }

    /// Sends a signal to the running process.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).expect("the process is there");
    }

    /// `kill -9`, and returns when the process is gone. Nothing happens if it is gone already.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child
                .kill()
                .expect("SIGKILL can be sent to one's own child");
            child.wait().expect("a killed child ends");
        }
    }

    /// Waits for the process to end by itself.
    pub fn exit(&self, within: Duration) -> Option<ExitStatus> {
        let status = until_or(within, || {
            let mut child = self.child.lock().unwrap();
            child
                .as_mut()
                .expect("the node was started")
                .try_wait()
                .expect("its own child")
        })?;
        self.child.lock().unwrap().take();
        Some(status)
    }

    pub fn is_running(&self) -> bool {
        let mut child = self.child.lock().unwrap();
        child
            .as_mut()
            .is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_none()))
    }

    /// Whether it runs, and every thread of it is stopped.
    pub fn is_stopped(&self) -> bool {
        let pid = self.child.lock().unwrap().as_ref().map(Child::id);
        // Others may kill it while they are looked at.
        let Some(Ok(threads)) = pid.map(|pid| fs::read_dir(format!("/proc/{pid}/task"))) else {
            return false;
        };
        threads.flatten().all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    pub fn pid(&self) -> u32 {
        // Not within the lock: whoever is wrong about it must not take the others along.
        let pid = self.child.lock().unwrap().as_ref().map(Child::id);
        pid.expect("the node runs")
    }

    /// Everything that it has logged so far.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program under test, without what this environment would tell it.
pub fn evermind() -> Command {
    stripped(Command::new(&*EVERMIND))
}

/// A command without the variables that Evermind takes for settings.
pub fn stripped(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("EVERMIND_") {
            command.env_remove(name);
        }
    }
    command
}

/// Whether a process that need not be ours has ended. A zombie has.
pub fn has_ended(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The state follows the name, which is in parentheses and may hold any character.
        Ok(stat) => stat
            .rsplit_once(") ")
            .is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

fn open_log(path: &PathBuf) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .expect("a log file")
}
