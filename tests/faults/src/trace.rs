//! System calls of a running node that fail or take long, by `strace`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use evermind_harness::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cleanup;

/// A tracer that is attached to a node; it lets go when it is dropped.
#[derive(Debug)]
pub(crate) struct Trace {
    child: Child,
    output: PathBuf,
    remembered: String,
}

impl Trace {
    /// Attaches with this rule (strace's `-e inject=`), and returns when every thread is traced.
    pub(crate) fn attach(pid: u32, rule: &str, dir: &Path) -> Self {
        let output = dir.join(format!("strace-{pid}"));
        let _ = fs::remove_file(&output);
        let child = Command::new("strace")
            .args(["-f", "-p", &pid.to_string(), "-e", "trace=fdatasync,fsync"])
            .args(["-e", &format!("inject={rule}"), "-o"])
            .arg(&output)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace starts; to install it: apt-get install strace");
        let remembered = child.id().to_string();
        cleanup::remember("kill", &[&remembered]);
        let trace = Self {
            child,
            output,
            remembered,
        };
        until("strace has the node", Duration::from_secs(10), || {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
            let traced = tasks.flatten().all(|task| {
                let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
                let tracer = status
                    .lines()
                    .find_map(|line| line.strip_prefix("TracerPid:"));
                tracer.is_none_or(|tracer| tracer.trim() != "0")
            });
            traced.then_some(())
        });
        trace
    }

    /// How many calls were tampered with so far.
    pub(crate) fn injected(&self) -> u64 {
        let text = fs::read_to_string(&self.output).unwrap_or_default();
        let lines = text.lines();
        let tampered =
            lines.filter(|line| line.contains("(INJECTED)") || line.contains("(DELAYED)"));
        tampered.count() as u64
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // strace lets go of the node on SIGTERM; it does not get to where the node has ended.
        let _ = kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        );
        let gone = evermind_harness::until::until_or(Duration::from_secs(10), || {
            self.child.try_wait().ok().flatten()
        });
        if gone.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        cleanup::forget("kill", &[&self.remembered]);
    }
}
