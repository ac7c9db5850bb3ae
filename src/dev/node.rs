//! One node of the development cluster: a child process.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use evermind_api::Origin;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::directory::Directory;
use crate::exit::Failure;
use crate::quote;
use crate::serve::RateLimit;
use crate::stderr::say;

/// How many nodes.
pub(super) const COUNT: u16 = 3;
/// From a node's HTTP port to its port for peers.
const PEER_OFFSET: u16 = 10;
/// How much of a log tells why a node ended.
const LOG_TAIL_LINES: usize = 25;

/// Whether the nodes are to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    No,
    Politely,
    AtOnce,
}

/// What a node is, whether or not it runs.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: u16,
    /// `http://host:port`
    pub(super) http: String,
    /// `host:port`
    pub(super) peer: String,
    pub(super) data_dir: PathBuf,
    log: PathBuf,
    /// Starts this node again: complete in itself.
    pub(super) command: Vec<String>,
}

/// A node's process has ended.
#[derive(Debug)]
pub(super) struct Ended {
    id: u16,
    status: std::io::Result<ExitStatus>,
}

impl Node {
    pub(super) fn new(
        id: u16,
        port: u16,
        rate_limit: Option<RateLimit>,
        cors_origins: &[Origin],
        directory: &Directory,
    ) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| {
            Failure::new(format!("cannot find this program's own file: {error}"))
                .hint("/proc must be mounted")
        })?;
        let listen = format!("127.0.0.1:{}", port + id);
        let peer = peer_address(port, id);
        let data_dir = directory.path().join(format!("node-{id}"));
        let founders: Vec<String> = (1..=COUNT)
            .map(|id| format!("{id}={}", peer_address(port, id)))
            .collect();
        let mut command = vec![
            text(&program)?,
            "serve".to_owned(),
            "--node-id".to_owned(),
            id.to_string(),
            "--data-dir".to_owned(),
            text(&data_dir)?,
            "--listen".to_owned(),
            listen.clone(),
            "--peer-listen".to_owned(),
            peer.clone(),
            "--initial-cluster".to_owned(),
            founders.join(","),
            "--bootstrap-api-key-file".to_owned(),
            text(&directory.key_file())?,
            "--admin-token-file".to_owned(),
            text(&directory.admin_token_file())?,
        ];
        if let Some(limit) = rate_limit {
            command.extend(["--rate-limit".to_owned(), limit.to_string()]);
        }
        for origin in cors_origins {
            command.extend(["--cors-origin".to_owned(), origin.to_string()]);
        }
        let log = directory.path().join(format!("node-{id}.log"));
        Ok(Self {
            id,
            http: format!("http://{listen}"),
            peer,
            data_dir,
            log,
            command,
        })
    }

    /// Starts the process. Its pid, and a future that resolves when it has ended.
    pub(super) fn start(
        &self,
        stop: watch::Receiver<Stop>,
    ) -> Result<(u32, impl Future<Output = Ended> + use<>), Failure> {
        let cannot = |error: std::io::Error| {
            Failure::new(format!("cannot start node {}: {error}", self.id))
                .hint(format!("its command is: {}", quote::line(&self.command)))
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(cannot)?;
        let mut command = Command::new(&self.command[0]);
        command
            .args(&self.command[1..])
            // The pipe on its stdin closes when this process ends, however it ends.
            .arg("--stop-with-stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for this process, which then stops its nodes one way.
            .process_group(0)
            .kill_on_drop(true);
        // A node does what its command says, not what this shell's variables say.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("EVERMIND_") && name != "EVERMIND_LOG" {
                command.env_remove(name);
            }
        }
        let child = command.spawn().map_err(cannot)?;
        let pid = child
            .id()
            .ok_or_else(|| cannot(std::io::ErrorKind::NotFound.into()))?;
        Ok((pid, ending(self.id, child, stop)))
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
        let mut text = String::new();
        for line in tail {
            text.extend(["  ", line, "\n"]);
        }
        text
    }
}

impl Ended {
    /// A node that ends on the way up takes the whole start with it.
    pub(super) fn before_ready(&self, nodes: &[(Node, u32)]) -> Failure {
        let (what, node) = self.tell(nodes);
        let log = node.map(Node::log_tail).unwrap_or_default();
        Failure::new(format!("{what}, before the cluster was ready\n{}", log.trim_end())).hint(
            "with --data-dir, data of another version or port may stand in the way: try another directory",
        )
    }

    /// A node that ends later is news, and no more: that is what a cluster is for.
    pub(super) fn report(&self, nodes: &[(Node, u32)]) {
        let (what, node) = self.tell(nodes);
        say!("{what}");
        let Some(node) = node else { return };
        if self
            .status
            .as_ref()
            .is_ok_and(|status| status.signal().is_none())
        {
            say!("{}", node.log_tail().trim_end());
        }
        say!("hint: start it again: {}", quote::line(&node.command));
    }

    fn tell<'a>(&self, nodes: &'a [(Node, u32)]) -> (String, Option<&'a Node>) {
        let how = match &self.status {
            Ok(status) => match (status.signal().map(Signal::try_from), status.code()) {
                (Some(Ok(signal)), _) => format!("was killed by {signal}"),
                (_, Some(code)) => format!("ended with exit code {code}"),
                _ => format!("ended: {status}"),
            },
            Err(error) => format!("is lost: {error}"),
        };
        match nodes.iter().find(|(node, _)| node.id == self.id) {
            Some((node, pid)) => (format!("node {} (pid {pid}) {how}", self.id), Some(node)),
            None => (format!("node {} {how}", self.id), None),
        }
    }
}

/// Waits for the process, passing on the wish to stop it.
async fn ending(id: u16, mut child: Child, mut stop: watch::Receiver<Stop>) -> Ended {
    // Waiting would close the pipe, and so end the node.
    let pipe = child.stdin.take();
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            wish = next_wish(&mut stop) => if wish == Stop::Politely {
                let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
                if let Some(pid) = pid {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
                }
            } else {
                let _ = child.start_kill();
                break child.wait().await;
            },
        }
    };
    drop(pipe);
    Ended { id, status }
}

/// The next change of mind. If nobody can have one any more, the node is not to outlive that.
async fn next_wish(stop: &mut watch::Receiver<Stop>) -> Stop {
    match stop.changed().await {
        Ok(()) => *stop.borrow_and_update(),
        Err(_) => Stop::AtOnce,
    }
}

/// Refuses to start on a port that is taken: the nodes would only say so in their logs.
pub(super) fn check_ports(port: u16) -> Result<(), Failure> {
    let ports = (1..=COUNT).flat_map(|id| [port + id, port + PEER_OFFSET + id]);
    for taken in ports {
        if let Err(error) = TcpListener::bind(("127.0.0.1", taken)) {
            let other = if port < 65_000 { port + 100 } else { 7_600 };
            return Err(
                Failure::new(format!("cannot use port {taken} of 127.0.0.1: {error}"))
                    .hint(format!("evermind dev --port {other}")),
            );
        }
    }
    Ok(())
}

fn peer_address(port: u16, id: u16) -> String {
    format!("127.0.0.1:{}", port + PEER_OFFSET + id)
}

fn text(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::new(format!("{} is not UTF-8", path.display()))
            .hint("choose another directory with --data-dir")
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_complete_in_itself() {
        let directory = Directory::open(None).unwrap();
        let node = Node::new(
            2,
            7600,
            "100/s".parse().ok(),
            &["*".parse().unwrap()],
            &directory,
        )
        .unwrap();
        let line = quote::line(&node.command);
        let dir = directory.path().display();
        assert!(line.starts_with('/'), "{line}");
        let flags = format!(
            " serve --node-id 2 --data-dir {dir}/node-2 --listen 127.0.0.1:7602 \
             --peer-listen 127.0.0.1:7612 \
             --initial-cluster 1=127.0.0.1:7611,2=127.0.0.1:7612,3=127.0.0.1:7613 \
             --bootstrap-api-key-file {dir}/api-key --admin-token-file {dir}/admin-token \
             --rate-limit 100/s --cors-origin '*'"
        );
        assert!(line.ends_with(&flags), "{line}");
        directory.close();
    }

    #[test]
    fn a_taken_port_is_named_with_a_way_out() {
        // Six ports around one that is taken for sure.
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let failure = check_ports(port - 1).unwrap_err();
        assert!(
            failure.message.contains(&format!("port {port} ")),
            "{}",
            failure.message
        );
        assert!(failure.hint.unwrap().starts_with("evermind dev --port "));
    }
}
