//! SIGSTOP: time passes, and the process does not know.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use evermind_checker::history::{Ask, Record, Told};
use evermind_harness::cluster::NODES;
use evermind_harness::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::caller::{Caller, Operation};
use crate::cluster::others;
use crate::load::Load;
use crate::scene::Scene;

/// The line that a holding client says with each write; the token follows.
const WRITES: &str = "write ";
/// Longer than the short leases of the load, and than any election.
const PAUSE_MS: u64 = 3_000;
/// Of the client that is stopped.
const LEASE_MS: u64 = 1_000;
/// Clients of these rows are numbered apart from those of the load.
const HOLDER: u64 = 1_100;
const RIVAL: u64 = 1_101;

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
        let uuid = holder_of(&key);
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

        let rival = format!("rival-{key}");
        let mut caller = scene.caller(RIVAL, scene.any_node());
        let granted = caller.surely(&Operation::take(&key, &rival, 10_000, 5_000));
        let Some(Told::Granted { token: second, .. }) = granted else {
            scene.require(false, || format!("{key} was not handed over: {granted:?}"));
            continue;
        };
        scene.require(second > first, || {
            format!("{key}: token {second} after {first}")
        });
        let taken = scene.load.write(&key, &rival, second);
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
        let released = caller.surely(&Operation::of(&key, &rival, Ask::Release));
        scene.require(released == Some(Told::Released), || {
            format!("{key}: {released:?}")
        });
    }
}

fn holder_of(key: &str) -> String {
    format!("holder-{key}")
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
        let invoked = scene.load.timeline.now();
        let mut child = Command::new(this)
            .args(["--hold", key, "--at", &client.address.to_string()])
            .env("EVERMIND_FAULTS_API_KEY", &client.api_key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        // Its first line is the record of its acquire, whose moments are known here: it began after
        // the process did, and was over when it spoke.
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the client speaks");
        let mut record: Record = serde_json::from_str(&line).expect("a record");
        record.node = node;
        record.invoked = invoked;
        record.returned = scene.load.timeline.now();
        scene.load.recorder.record(record);
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(std::result::Result::ok) {
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
    let load = Load::new();
    let api_key = std::env::var("EVERMIND_FAULTS_API_KEY").expect("a key");
    let mut caller = Caller::at(at.parse().expect("an address"), api_key, &load, HOLDER);
    let told = caller.once(&Operation::take(key, &holder_of(key), LEASE_MS, 0));
    let Told::Granted { token, .. } = told else {
        panic!("{key} is not to be had: {told:?}");
    };
    let record = load
        .recorder
        .with(|history| serde_json::to_string(&history.records[0]));
    println!("{}", record.expect("a record is plain values"));
    loop {
        println!("{WRITES}{token}");
        thread::sleep(Duration::from_millis(10));
    }
}
