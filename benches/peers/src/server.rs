//! One process of a system under measurement: gone when dropped, or when this program is.

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

/// Below the range from which Linux takes the local ports of outgoing connections, and above the
/// one that the tests use.
const PORTS: std::ops::Range<u16> = 30_000..32_700;
/// A process that does not answer by then will not.
const READY_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How much of a log tells why a server is not there.
const LOG_TAIL_BYTES: usize = 2000;

/// A running server.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    command: String,
}

impl Server {
    /// Starts `program` with its output in `dir/name.log`. It dies with this process, however that
    /// ends: `setpriv` asks the kernel for it and becomes the program.
    pub(crate) fn start(
        dir: &Path,
        name: &str,
        program: &Path,
        arguments: &[String],
    ) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let output = open_log(&log)?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("a log is opened twice")?)
            .stderr(output);
        // A server does what its command says, not what this shell's variables say.
        for (variable, _) in std::env::vars_os() {
            let variable = variable.to_string_lossy();
            if ["EVERMIND_", "ETCD_", "ZOO", "JAVA_"]
                .iter()
                .any(|prefix| variable.starts_with(prefix))
            {
                command.env_remove(&*variable);
            }
        }
        let child = command
            .spawn()
            .context("cannot start setpriv\nhint: it comes with util-linux")?;
        let command = format!("{} {}", program.display(), arguments.join(" "));
        Ok(Self {
            child,
            log,
            command,
        })
    }

    /// As one would type it.
    pub(crate) fn command(&self) -> &str {
        &self.command
    }

    /// CPU time that all its threads have taken so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.child.id())
    }

    /// The most memory that it had at once so far, in MB (10^6 bytes).
    pub(crate) fn peak_memory_mb(&self) -> Result<f64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let kib: Option<f64> = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"))
            .and_then(|kib| kib.trim().parse().ok());
        let kib = kib.with_context(|| format!("{path} names no VmHWM"))?;
        Ok(kib * 1024.0 / 1e6)
    }

    /// Fails if the process has ended.
    pub(crate) fn still_runs(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait().context("waiting for a server")? {
            bail!("{} has ended: {status}\n{}", self.command, self.log_tail());
        }
        Ok(())
    }

    /// `kill -9`; returns when the process is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(LOG_TAIL_BYTES)..];
        String::from_utf8_lossy(tail).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its data is not kept either: there is nothing to be polite for.
        self.kill();
    }
}

/// CPU time of a process, threads that have ended included. By its CPU clock: what `/proc` says is
/// counted where the kernel's tick finds it, and timers wake a process just there.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let process = Pid::from_raw(pid.try_into().context("a process number")?);
    let time = clock_getcpuclockid(process).and_then(ClockId::now);
    let time = time.with_context(|| format!("reading the CPU clock of process {pid}"))?;
    Ok(Duration::from(time).as_secs_f64())
}

/// Ports that nobody listens on, others at each call.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let tries = PORTS.len();
    let mut ports = Vec::new();
    for _ in 0..tries {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start);
        let port = PORTS.start + offset;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
        if ports.len() == count {
            return Ok(ports);
        }
    }
    bail!("{PORTS:?} has no {count} free ports\nhint: `ss -ltnp` shows who has them")
}

/// Asks again and again until the answer is there, every server still running.
pub(crate) async fn until<T>(
    what: &str,
    servers: &mut [Server],
    mut ask: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let end = Instant::now() + READY_MAX;
    loop {
        for server in &mut *servers {
            server.still_runs()?;
        }
        let trouble = match tokio::time::timeout(READY_MAX, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => anyhow::anyhow!("no answer"),
        };
        if Instant::now() > end {
            let log = servers.first().map(Server::log_tail).unwrap_or_default();
            return Err(trouble.context(format!("{what}: not within {READY_MAX:?}\n{log}")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn open_log(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn work_shows_in_a_process_s_time() {
        let before = cpu_seconds(std::process::id()).unwrap();
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(20) {}
        let worked = cpu_seconds(std::process::id()).unwrap() - before;
        assert!(worked > 0.0, "{worked} s");
    }

    #[test]
    fn ports_are_not_handed_out_twice_in_a_row() {
        let first = free_ports(3).unwrap();
        let second = free_ports(3).unwrap();
        assert!(first.iter().all(|port| !second.contains(port)));
    }

    #[tokio::test]
    async fn a_server_that_ends_is_told_with_its_words() {
        let dir = std::env::temp_dir();
        let name = format!("evermind-bench-{}", std::process::id());
        let words = ["-c".into(), "echo no such disk; exit 3".into()];
        let server = Server::start(&dir, &name, Path::new("sh"), &words).unwrap();
        let never = async || -> Result<()> { bail!("not yet") };
        let outcome = until("ready", &mut [server], never).await;
        fs::remove_file(dir.join(format!("{name}.log"))).unwrap();
        let error = format!("{:#}", outcome.unwrap_err());
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("no such disk"), "{error}");
    }
}
