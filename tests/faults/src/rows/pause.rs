//! SIGSTOP: time passes, and the process does not know.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use evermind_harness::cluster::NODES;
use evermind_harness::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::cluster::others;
use crate::scene::Scene;

/// The line that a holding client says with each write; the token follows.
const WRITES: &str = "write ";
/// Longer than the short leases of the load, and than any election.
const PAUSE_MS: u64 = 3_000;
/// Of the client that is stopped.
const LEASE_MS: u64 = 1_000;

/// The leader stands still past leases that it granted.
pub(crate) fn leader(scene: &Scene<'_>) {
    while scene.goes_on() {
        scene.work();
        let leader = scene.cluster.leader();
        let term = scene.cluster.term();
        pause(scene, leader);
        scene.await_term_above(term, &others(leader));
        scene.spell(PAUSE_MS);
        scene.cluster.resume(leader);
        scene.spell(1_000);
    }
}

/// Each node in turn.
pub(crate) fn each(scene: &Scene<'_>) {
    while scene.goes_on() {
        for id in NODES {
            scene.work();
            pause(scene, id);
            scene.spell(1_500);
            scene.cluster.resume(id);
        }
    }
}

fn pause(scene: &Scene<'_>, id: u64) {
    scene.cluster.pause(id);
    scene.inject();
    let stopped = scene.cluster.node(id).is_stopped();
    scene.effect("processes in state T", u64::from(stopped));
}

/// The client that holds is stopped, its lease runs out, another takes the lock and writes; when the
/// first goes on, what it writes must be refused.
pub(crate) fn holder(scene: &Scene<'_>) {
    while scene.goes_on() {
        scene.work();
        let round = scene.injected();
        let key = format!("held-{round}");
        let node = scene.any_node();
        let holder = Holder::start(scene, node, &key);
        let uuid = format!("holder-{key}");
        let first = holder.token();
        let taken = scene.load.write(&key, &uuid, first);
        scene.require(taken, || format!("the first write to {key} was refused"));
        holder.signal(Signal::SIGSTOP);
        scene.inject();
        let stopped = until_stopped(holder.child.id());
        scene.effect("clients in state T", u64::from(stopped));
        // Everything that it said before it stopped.
        thread::sleep(Duration::from_millis(50));
        while holder.lines.try_recv().is_ok() {}

        let rival = scene.cluster.client(scene.any_node());
        let uuid_of_rival = format!("rival-{key}");
        let body = json!({
            "key": key, "uuid": uuid_of_rival, "lease": 10_000, "retryAttempts": 50, "retryDelay": 100,
        });
        let granted = rival.acquire(&body);
        scene.require(granted.status == 200, || {
            format!("{key} was not handed over: {granted}")
        });
        if granted.status != 200 {
            continue;
        }
        let second = granted.token();
        scene.require(second > first, || {
            format!("{key}: token {second} after {first}")
        });
        let taken = scene.load.write(&key, &uuid_of_rival, second);
        scene.require(taken, || {
            format!("the new holder's write to {key} was refused")
        });

        holder.signal(Signal::SIGCONT);
        let late = holder.token();
        let taken = scene.load.write(&key, &uuid, late);
        scene.require(!taken, || {
            format!("{key}: a write with token {late} was taken after one with {second}")
        });
        scene.effect("stale writes refused", u64::from(!taken));
        let released = rival.release(&key, &uuid_of_rival);
        scene.require(released.status == 200, || format!("{key}: {released}"));
    }
}

/// A client in a process of its own, which takes a lock and then writes every 10 ms.
struct Holder {
    child: Child,
    lines: Receiver<u64>,
}

impl Holder {
    fn start(scene: &Scene<'_>, node: u64, key: &str) -> Self {
        let client = scene.cluster.client(node);
        let this = std::env::current_exe().expect("a running program has a path");
        let mut child = Command::new(this)
            .args(["--hold", key, "--at", &client.address.to_string()])
            .env("EVERMIND_FAULTS_API_KEY", &client.api_key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started");
        let stdout = child.stdout.take().expect("piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout)
                .lines()
                .map_while(std::result::Result::ok)
            {
                let token = line.strip_prefix(WRITES).and_then(|t| t.parse().ok());
                if token.is_none_or(|token| sender.send(token).is_err()) {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// The token of its next write.
    fn token(&self) -> u64 {
        let token = self.lines.recv_timeout(Duration::from_secs(15));
        token.expect("the holding client writes")
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).expect("its own child");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until_stopped(pid: u32) -> bool {
    until("the client stands still", Duration::from_secs(2), || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let state = stat.rsplit_once(") ")?.1.chars().next()?;
        (state == 'T').then_some(true)
    })
}

/// The other side: holds `key` for a second, and writes for ever, as a client does that does not
/// look at the time. Ends with its standard input, which closes with the process that started it.
pub(crate) fn hold(key: &str, at: &str) {
    thread::spawn(|| {
        let mut nothing = [0; 1];
        let _ = std::io::stdin().read(&mut nothing);
        std::process::exit(0);
    });
    let client = evermind_harness::client::Client {
        address: at.parse().expect("an address"),
        api_key: std::env::var("EVERMIND_FAULTS_API_KEY").expect("a key"),
    };
    let token = client.take(key, &format!("holder-{key}"), LEASE_MS).token();
    loop {
        println!("{WRITES}{token}");
        thread::sleep(Duration::from_millis(10));
    }
}
