//! Shows what `evermind lock run` says of a command that it cannot end, because it belongs to another
//! user: what `sudo` starts.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::process::evermind;
use crate::harness::until::until_or;
use crate::scripted::{Node, granted, obliging};

const SOON: Duration = Duration::from_secs(20);
const NOBODY: u32 = 65_534;

/// A directory that everybody may read, with what everybody may run in it: the program, and a command
/// that belongs to root whoever starts it. It prints its pid.
struct Bin {
    dir: tempfile::TempDir,
}

impl Bin {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = evermind();
        let (program, at) = (program.get_program(), dir.path().join("evermind"));
        // A hundred megabytes, and only where they lie on another file system.
        if fs::hard_link(program, &at).is_err() {
            fs::copy(program, &at).unwrap();
        }
        let source = dir.path().join("as-root.c");
        let code = "#include <stdio.h>\n#include <unistd.h>\n\
            int main(void) { if (setuid(0)) return 1; printf(\"%d\\n\", getpid()); \
            fflush(stdout); sleep(120); return 0; }\n";
        fs::write(&source, code).unwrap();
        let bin = Self { dir };
        let compiled = Command::new("cc")
            .arg(&source)
            .arg("-o")
            .arg(bin.as_root())
            .status();
        assert!(compiled.unwrap().success(), "a C compiler is needed");
        chown(bin.as_root(), Some(0), Some(0)).unwrap();
        mode(&bin.as_root(), 0o4755);
        mode(bin.dir.path(), 0o755);
        bin
    }

    fn as_root(&self) -> PathBuf {
        self.dir.path().join("as-root")
    }

    /// `lock run` of that command, by nobody. What it says goes to a file: the command that goes on
    /// holds every pipe open.
    fn run(&self, node: &Node) -> Guard {
        let mut command = Command::new(self.dir.path().join("evermind"));
        command
            .args(["lock", "run", "k", "--api-key", "evk", "--url", &node.url])
            .args(["--lease", "2s", "--"])
            .arg(self.as_root())
            .env_clear()
            .current_dir("/")
            .uid(NOBODY)
            .gid(NOBODY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(self.said()).unwrap());
        let mut guard = command.spawn().unwrap();
        let mut line = String::new();
        let stdout = guard.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let as_root = Pid::from_raw(line.trim().parse().expect("it prints its pid"));
        Guard { guard, as_root }
    }

    fn said(&self) -> PathBuf {
        self.dir.path().join("said")
    }

    #[track_caller]
    fn await_named(&self, as_root: Pid) {
        let said = || fs::read_to_string(self.said()).unwrap();
        until_or(SOON, || said().contains("hint: ").then_some(()));
        let said = said();
        let named = format!("{as_root} (as-root)");
        assert!(said.contains("could not be ended, and go on"), "{said}");
        assert!(said.contains(&named), "{named}: {said}");
    }
}

/// Both are ended whatever the test finds.
struct Guard {
    guard: Child,
    as_root: Pid,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = kill(self.as_root, Signal::SIGKILL);
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Whether the tests run as root: nobody else can make such a command.
fn is_root() -> bool {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        eprintln!("NOT SHOWN: only root can make a command that belongs to another user");
    }
    is_root
}

#[test]
fn a_command_of_another_user_is_named_when_the_lock_is_lost() {
    if !is_root() {
        return;
    }
    let node = Node::new(|path, body| {
        Some(match path {
            "/lock/acquire" => granted(body),
            _ => (404, json!({ "code": "lock_not_found", "message": "gone" })),
        })
    });
    let bin = Bin::new();
    let running = bin.run(&node);
    bin.await_named(running.as_root);
}

#[test]
fn a_command_of_another_user_is_named_when_the_guard_was_killed() {
    if !is_root() {
        return;
    }
    let node = Node::new(obliging);
    let bin = Bin::new();
    let mut running = bin.run(&node);
    running.guard.kill().unwrap();
    bin.await_named(running.as_root);
}
