//! The processes that a process has started, and those that they have started, from /proc.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// So many are named in a message.
const NAMED_MAX: usize = 5;

/// A process as it is told to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.pid, self.name.escape_debug())
    }
}

/// Names them, the first few of many.
pub(super) fn list(processes: &[Process]) -> String {
    let named: Vec<String> = processes
        .iter()
        .take(NAMED_MAX)
        .map(ToString::to_string)
        .collect();
    let more = processes.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    named.join(", ") + &more
}

/// What /proc says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) process: Process,
    pub(super) state: char,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
}

impl Found {
    /// One process, if it is there. A zombie is.
    pub(super) fn of(pid: i32) -> Option<Self> {
        Self::read(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Reads a line of proc(5)'s `stat`. The name is in parentheses, and may hold some.
    fn read(stat: &str) -> Option<Self> {
        let (pid, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let state = fields.next()?.chars().next()?;
        let mut number = || fields.next()?.parse().ok();
        Some(Self {
            process: Process {
                pid: pid.parse().ok()?,
                name: name.to_owned(),
            },
            state,
            parent: number()?,
            group: number()?,
            session: number()?,
        })
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(self.process.pid)
    }

    /// Whether it has ended and waits for its parent to learn how.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Sends a signal. Gives false if that is not permitted, as for a command under `sudo`.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        kill(self.pid(), signal) != Err(Errno::EPERM)
    }
}

/// The living processes below this one. With a subreaper at the top none can leave.
pub(super) fn below(top: Pid) -> Vec<Found> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut children: BTreeMap<i32, Vec<Found>> = BTreeMap::new();
    for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        if let Some(found) = Found::of(pid) {
            children.entry(found.parent).or_default().push(found);
        }
    }
    let mut found = Vec::new();
    let mut parents = vec![top.as_raw()];
    while let Some(parent) = parents.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            parents.push(child.process.pid);
            if !child.has_ended() {
                found.push(child);
            }
        }
    }
    found
}

/// Whether the kernel would not stop this process's group at Ctrl-Z, because no shell is there that
/// could continue it: setpgid(2) and POSIX call such a group orphaned.
pub(super) fn is_orphaned(pid: Pid) -> bool {
    let Some(own) = Found::of(pid.as_raw()) else {
        return true;
    };
    let mut parent = Found::of(own.parent);
    while let Some(next) = parent {
        if next.session != own.session {
            return true;
        }
        if next.group != own.group {
            return false;
        }
        parent = Found::of(next.parent);
    }
    true
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_read() {
        let found = Found::read("12 (a) (b) c) S 3 4 5 6 7").unwrap();
        assert_eq!(found.process.to_string(), "12 (a) (b) c)");
        assert_eq!(
            (found.state, found.parent, found.group, found.session),
            ('S', 3, 4, 5)
        );
        assert_eq!(Found::read("12 (a"), None);
    }

    #[test]
    fn grandchildren_are_found_and_named() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 600 & wait"])
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let grandchild = loop {
            if let [found] = below(pid).as_slice()
                && found.process.name == "sleep"
            {
                break found.clone();
            }
            assert!(std::time::Instant::now() < deadline, "no grandchild");
            std::thread::yield_now();
        };
        let is_it = |found: &Found| found.process == grandchild.process;
        assert!(below(Pid::this()).iter().any(is_it));
        assert!(grandchild.signal(Signal::SIGKILL));
        child.wait().unwrap();
        assert_eq!(below(pid), []);
    }

    #[test]
    fn the_first_few_are_named() {
        let process = |pid| Process {
            pid,
            name: "a".to_owned(),
        };
        let many: Vec<_> = (1..=7).map(process).collect();
        assert_eq!(list(&many), "1 (a), 2 (a), 3 (a), 4 (a), 5 (a) and 2 more");
        assert_eq!(list(&many[..1]), "1 (a)");
    }
}
