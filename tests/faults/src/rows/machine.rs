//! Orders to stop, and machines that are short of something.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use evermind_checker::history::{Ask, Told};
use evermind_harness::cluster::NODES;
use evermind_harness::until;
use evermind_harness::until::until_or;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::caller::Operation;
use crate::cluster::others;
use crate::scene::Scene;
use crate::tool;

/// The contract of SIGTERM.
const STOPS_WITHIN: Duration = Duration::from_secs(15);

/// SIGTERM to the leader: it hands its office over before it goes.
pub(crate) fn transfer(scene: &Scene<'_>) {
    let cluster = scene.cluster;
    while scene.goes_on() {
        scene.work();
        let leader = cluster.leader();
        let term = cluster.term();
        stop(scene, leader);
        scene.await_term_above(term, &others(leader));
        cluster.restart(leader);
    }
}

/// Each node is stopped in order and started again, one after the other.
pub(crate) fn rolling(scene: &Scene<'_>) {
    let cluster = scene.cluster;
    while scene.goes_on() {
        for id in NODES {
            scene.work();
            stop(scene, id);
            cluster.restart(id);
        }
    }
}

fn stop(scene: &Scene<'_>, id: u64) {
    let status = scene.cluster.terminate(id, STOPS_WITHIN);
    scene.inject();
    let orderly = status.is_some_and(|status| status.success());
    scene.require(orderly, || format!("node {id} stopped with {status:?}"));
    scene.effect("nodes stopped in order", u64::from(orderly));
}

/// A node gets 5% of one core: by its control group where those can be made, else by stopping it for
/// 19 of 20 slices.
pub(crate) fn starved(scene: &Scene<'_>) {
    let cluster = scene.cluster;
    while scene.goes_on() {
        for victim in [cluster.leader(), cluster.followers()[0]] {
            scene.work();
            let pid = cluster.node(victim).pid();
            if let Some(group) = Group::make(pid) {
                scene.inject();
                scene.spell(5_000);
                scene.effect("slices in which a node was throttled", group.throttled());
            } else {
                scene.inject();
                let ends = Instant::now() + Duration::from_secs(5);
                let mut stops = 0;
                while Instant::now() < ends {
                    cluster.pause(victim);
                    stops += 1;
                    scene.spell(95);
                    cluster.resume(victim);
                    scene.spell(5);
                }
                scene.effect("slices in which a node was throttled", stops);
            }
        }
    }
}

/// A control group (version 1) with 5 ms in 100.
struct Group {
    dir: PathBuf,
    pid: u32,
}

impl Group {
    fn make(pid: u32) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup/cpu");
        let dir = root.join(format!("evermind-faults-{pid}"));
        fs::create_dir(&dir).ok()?;
        let group = Self { dir, pid };
        let write = |name: &str, value: &str| fs::write(group.dir.join(name), value).ok();
        write("cpu.cfs_period_us", "100000")?;
        write("cpu.cfs_quota_us", "5000")?;
        write("cgroup.procs", &pid.to_string())?;
        Some(group)
    }

    fn throttled(&self) -> u64 {
        let stat = fs::read_to_string(self.dir.join("cpu.stat")).unwrap_or_default();
        let mut lines = stat.lines();
        let found = lines.find_map(|line| line.strip_prefix("nr_throttled "));
        found
            .and_then(|count| count.parse().ok())
            .unwrap_or_default()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::write("/sys/fs/cgroup/cpu/cgroup.procs", self.pid.to_string());
        let _ = fs::remove_dir(&self.dir);
    }
}

/// No file descriptor is left for another connection.
pub(crate) fn descriptors(scene: &Scene<'_>) {
    let cluster = scene.cluster;
    while scene.goes_on() {
        for victim in [cluster.leader(), cluster.followers()[0]] {
            scene.work();
            let pid = cluster.node(victim).pid();
            let open = || {
                let entries = fs::read_dir(format!("/proc/{pid}/fd"));
                entries.map_or(0, Iterator::count)
            };
            let limit = open() + 8;
            let pid_argument = pid.to_string();
            let set = |limit: &str| {
                tool::run(
                    "prlimit",
                    &["--pid", &pid_argument, &format!("--nofile={limit}:")],
                );
            };
            let before = soft_limit(pid);
            set(&limit.to_string());
            scene.inject();
            let mut idle: Vec<TcpStream> = Vec::new();
            let address = cluster.node(victim).http;
            for _ in 0..200 {
                let connected = TcpStream::connect_timeout(&address, Duration::from_secs(1));
                idle.extend(connected.ok());
            }
            until("every descriptor is taken", Duration::from_secs(10), || {
                (open() >= limit).then_some(())
            });
            scene.effect("descriptors that were all taken", open() as u64);
            scene.spell(3_000);
            drop(idle);
            set(&before);
            until(
                "the node takes callers again",
                Duration::from_secs(30),
                || scene.serves(victim).then_some(()),
            );
        }
    }
}

fn soft_limit(pid: u32) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("the node runs");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let value = line.and_then(|line| line.split_whitespace().nth(3));
    value.expect("a limit of open files").to_owned()
}

const SLOW_CONNECTIONS: usize = 5_000;
/// Against 5,000 connections on two cores shared with the clients, this is what the ratio means
/// nothing below.
const P99_FLOOR: Duration = Duration::from_millis(100);
const RSS_GROWTH_MIB_MAX: u64 = 512;

/// What no decent client sends. Where it is HTTP it is refused with a 4xx; where it is not, the
/// connection may be closed without a word.
const MALFORMED: &[&[u8]] = &[
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /livez HTTP/0.9\r\n\r\n",
    b"POST /lock/acquire HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /lock/acquire HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"CONNECT example:1 HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x00\xff\x13\x37\r\n\r\n\r\n",
    b"POST /lock/acquire HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n[[[[[[[[[",
];

/// What no peer sends: a frame of 4 GiB, a caller who is lost, a key that is no secret of a cluster's.
const FORGED: &[&[u8]] = &[
    b"\xff\xff\xff\xff\x00\x00\x00\x00",
    b"GET /v1/cluster HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer evk_0000\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x04\x00\x00\x00\xde\xad\xbe\xef",
];

/// Thousands that dawdle and some that talk nonsense, at the clients' port and at the peers'.
pub(crate) fn abuse(scene: &Scene<'_>) {
    let cluster = scene.cluster;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the hard limit may be taken");
    refuses_the_malformed(scene);
    let rss_before = NODES.map(|id| rss_mib(cluster.node(id).pid()));
    let before = p99(scene, Duration::from_secs(5));
    let (slow, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let refusals = AtomicU64::new(0);
    let during = thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        for part in 0..4 {
            let (slow, stop) = (&slow, &stop);
            scope.spawn(move || dawdle(scene, part, slow, stop));
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for id in NODES {
                    let callers = MALFORMED.iter().map(|bytes| (cluster.node(id).http, bytes));
                    let peers = FORGED.iter().map(|bytes| (cluster.peer(id), bytes));
                    for (address, bytes) in callers.chain(peers) {
                        let refused = is_refused(address, bytes);
                        refusals.fetch_add(u64::from(refused), Ordering::Relaxed);
                        scene.require(refused, || format!("{address} takes {bytes:?}"));
                        scene.inject();
                        thread::sleep(Duration::from_millis(10));
                    }
                }
            }
        });
        until(
            "thousands of slow connections stand",
            Duration::from_secs(30),
            || (slow.load(Ordering::Relaxed) >= SLOW_CONNECTIONS as u64).then_some(()),
        );
        // Whoever is honest gets in, on a connection of its own, at every node.
        for id in NODES {
            let serves = until_or(HONEST_WITHIN, || scene.serves(id).then_some(()));
            scene.require(serves.is_some(), || {
                format!("node {id} serves nobody honest under abuse")
            });
        }
        p99(scene, Duration::from_secs(8))
    });
    scene.effect("slow connections", slow.load(Ordering::Relaxed));
    scene.effect(
        "malformed requests refused",
        refusals.load(Ordering::Relaxed),
    );
    scene.note(format!(
        "p99 {} ms before, {} ms during",
        before.as_millis(),
        during.as_millis()
    ));
    scene.require(during <= (before * 2).max(P99_FLOOR), || {
        format!("p99 of honest callers went from {before:?} to {during:?}")
    });
    for (id, before) in NODES.into_iter().zip(rss_before) {
        let grown = rss_mib(cluster.node(id).pid()).saturating_sub(before);
        scene.require(grown < RSS_GROWTH_MIB_MAX, || {
            format!("node {id} grew by {grown} MiB")
        });
    }
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A quarter of the slow connections, opened again where a node has had enough of one.
fn dawdle(scene: &Scene<'_>, part: usize, slow: &AtomicU64, stop: &AtomicBool) {
    let mut connections: Vec<TcpStream> = Vec::new();
    let head = b"POST /lock/acquire HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n";
    let mut byte = 0;
    while !stop.load(Ordering::Relaxed) {
        for at in connections.len()..SLOW_CONNECTIONS / 4 {
            let node = NODES[(at + part) % NODES.len()];
            let address = scene.cluster.node(node).http;
            let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
                break;
            };
            let _ = stream.set_nonblocking(true);
            connections.push(stream);
            slow.fetch_add(1, Ordering::Relaxed);
        }
        byte = (byte + 1) % head.len();
        connections.retain_mut(|stream| stream.write(&head[byte..=byte]).is_ok());
        thread::sleep(Duration::from_millis(500));
    }
}

/// How long an honest caller may have to try on a connection of its own.
const HONEST_WITHIN: Duration = Duration::from_secs(10);

/// Before there is any crowd: each node answers each malformed request with a 4xx, and each that is
/// well-formed up to its body by what is wrong with that, not by who sent it.
fn refuses_the_malformed(scene: &Scene<'_>) {
    let cluster = scene.cluster;
    let by_a_caller = |body: &str| {
        format!(
            "POST /lock/acquire HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\nContent-Type: \
             application/json\r\nContent-Length: {}\r\n\r\n{body}",
            cluster.api_key,
            body.len()
        )
    };
    for id in NODES {
        let address = cluster.node(id).http;
        for bytes in MALFORMED {
            let status = status_of(address, bytes);
            let is_http = bytes[0].is_ascii_alphabetic();
            let refused = status.map_or(!is_http, |status| (400..500).contains(&status));
            scene.require(refused, || {
                format!("node {id} answers {status:?} to {}", bytes.escape_ascii())
            });
            scene.inject();
            scene.effect(
                "malformed requests answered with 4xx",
                u64::from(status.is_some()),
            );
        }
        for body in MALFORMED_BODIES {
            let status = status_of(address, by_a_caller(body).as_bytes());
            scene.require(status == Some(400), || {
                format!("node {id} answers {status:?} to the body {body}")
            });
            scene.inject();
            scene.effect(
                "malformed requests answered with 4xx",
                u64::from(status == Some(400)),
            );
        }
    }
}

/// Bodies that a caller with a good key is told are wrong.
const MALFORMED_BODIES: &[&str] = &[
    "[[[[[[[[[",
    "[]",
    "{}",
    r#"{"key":"k","lease":-1}"#,
    r#"{"key":"k","lease":1000,"key":"l"}"#,
    r#"{"key":"k","lease":1000} {}"#,
    r#"{"key":"","lease":1000}"#,
    r#"{"key":"k","lease":1e400}"#,
];

/// The status that comes back; `None` where the connection is closed or stays silent.
fn status_of(address: std::net::SocketAddr, bytes: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(15)))
        .ok()?;
    stream.write_all(bytes).ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    let text = std::str::from_utf8(&head).ok()?;
    let (version, status) = text.split_once(' ')?;
    version
        .starts_with("HTTP/1.")
        .then(|| status.parse().ok())?
}

/// Whether a node answers with a 4xx or 5xx, or closes.
fn is_refused(address: std::net::SocketAddr, bytes: &[u8]) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(2)) else {
        return true;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(15)));
    if stream.write_all(bytes).is_err() {
        return true;
    }
    let mut answer = [0; 16];
    match stream.read(&mut answer) {
        Ok(0) => true,
        // A peer's port may say hello first; what matters is that it says no more.
        Ok(length) if answer[..length].starts_with(b"HTTP/1.") => answer[9] != b'2',
        Ok(_) => matches!(drain(&mut stream), Ok(())),
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// Reads to the end: whether the other side closes.
fn drain(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// What one honest caller waits for, 99 times of a hundred.
fn p99(scene: &Scene<'_>, lasts: Duration) -> Duration {
    const NUMBER: u64 = 1_400;
    let mut caller = scene.caller(NUMBER, 1);
    let mut took = Vec::new();
    let ends = Instant::now() + lasts;
    while Instant::now() < ends {
        let key = format!("honest-{}", scene.load.timeline.now().0);
        let begins = Instant::now();
        let told = caller.surely(&Operation::take(&key, &key, 2_000, 0));
        took.push(begins.elapsed());
        let granted = matches!(told, Some(Told::Granted { .. }));
        scene.require(granted, || format!("an honest caller was told {told:?}"));
        caller.surely(&Operation::of(&key, &key, Ask::Release));
    }
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

fn rss_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}
