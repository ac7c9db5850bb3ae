//! Rows at a terminal: an interactive bash with job control on a pseudo-terminal.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::pty::openpty;

use super::super::until::until_or;
use super::{Runner, Step, said};

/// A line or a state is there at once, or it does not come.
const SEEN_WITHIN: Duration = Duration::from_secs(4);

struct Shell<'a> {
    child: Child,
    terminal: Option<File>,
    name: String,
    text: Arc<Mutex<String>>,
    dir: &'a Path,
    /// What was missed.
    missed: Vec<String>,
}

pub(super) fn play(steps: &[Step], runner: &Runner, dir: &Path, key: &str) -> Vec<String> {
    let mut shell = Shell::start(runner, dir, key);
    for step in steps {
        shell.take(*step);
    }
    shell.end()
}

impl<'a> Shell<'a> {
    fn start(runner: &Runner, dir: &'a Path, key: &str) -> Self {
        let pty = openpty(None, None).expect("a pseudo-terminal");
        let terminal = File::from(pty.master);
        let slave = File::from(pty.slave);
        let name = fs::read_link(format!("/proc/self/fd/{}", {
            use std::os::fd::AsRawFd as _;
            slave.as_raw_fd()
        }))
        .unwrap();
        let bash = [
            "--ctty",
            "bash",
            "--norc",
            "--noprofile",
            "--noediting",
            "-i",
        ];
        let mut command = runner.command("setsid", &bash, dir, key);
        command
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave);
        let child = command.spawn().expect("setsid and bash are installed");
        drop(command);
        let text = Arc::new(Mutex::new(String::new()));
        let (mut reader, into) = (terminal.try_clone().unwrap(), text.clone());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                let more = String::from_utf8_lossy(&bytes[..count]).into_owned();
                into.lock().unwrap().push_str(&more);
            }
        });
        let mut shell = Self {
            child,
            terminal: Some(terminal),
            name: name.display().to_string(),
            text,
            dir,
            missed: Vec::new(),
        };
        shell.line("stty -echo; . ./lib.sh; say at the prompt");
        shell.see("at the prompt");
        shell.text.lock().unwrap().clear();
        shell
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Type(line) => self.line(line),
            Step::Key(key) => self.send(&[key]),
            Step::See(what) => self.see(what),
            Step::State(state) => self.state(state),
            Step::Elsewhere(line) => {
                let line = format!(". ./lib.sh; {line}");
                let elsewhere = Command::new("setsid")
                    .args(["bash", "-c", &line])
                    .current_dir(self.dir)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .status();
                assert!(elsewhere.is_ok());
            }
            Step::Resize => {
                let resized = Command::new("stty")
                    .args(["-F", &self.name, "cols", "77"])
                    .status();
                assert!(resized.is_ok_and(|status| status.success()));
            }
            Step::HangUp => self.hang_up(),
        }
    }

    fn line(&mut self, line: &str) {
        self.send(format!("{line}\n").as_bytes());
    }

    fn send(&mut self, bytes: &[u8]) {
        if let Some(terminal) = &mut self.terminal {
            let _ = terminal.write_all(bytes);
        }
    }

    /// The reader holds the terminal open too: the shell's own hang-up stands for it.
    fn hang_up(&mut self) {
        self.terminal = None;
        let leader = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(leader, nix::sys::signal::Signal::SIGHUP);
        let ended = until_or(SEEN_WITHIN, || self.child.try_wait().unwrap());
        if ended.is_none() {
            self.missed.push("(the shell lives)".to_owned());
        }
    }

    fn see(&mut self, what: &str) {
        let seen = until_or(SEEN_WITHIN, || {
            let text = self.text.lock().unwrap();
            said(&text).iter().any(|line| line == what).then_some(())
        });
        if seen.is_none() {
            self.missed.push(format!("(never: {what})"));
        }
    }

    fn state(&mut self, expected: char) {
        let seen = until_or(SEEN_WITHIN, || {
            let pid = fs::read_to_string(self.dir.join("pid")).ok()?;
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            let state = stat
                .ok()
                .and_then(|stat| stat.rsplit_once(") ")?.1.chars().next());
            let state = state.filter(|state| *state != 'Z').unwrap_or('-');
            (state == expected).then_some(())
        });
        if seen.is_none() {
            self.missed
                .push(format!("(the command is never {expected})"));
        }
    }

    fn end(mut self) -> Vec<String> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut seen = said(&self.text.lock().unwrap());
        seen.append(&mut self.missed);
        seen
    }
}
