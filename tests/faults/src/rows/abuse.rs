//! Callers without manners: thousands that dawdle, and some that talk nonsense.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use evermind_checker::history::{Ask, Told};
use evermind_harness::cluster::NODES;
use evermind_harness::until;
use evermind_harness::until::until_or;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::caller::Operation;
use crate::scene::Scene;

const SLOW_CONNECTIONS: usize = 5_000;
/// How much longer honest callers may wait under abuse.
const P99_RATIO_MAX: f64 = 2.0;
/// Below this the ratio means nothing: 5,000 connections and the clients share two cores with the nodes.
const P99_FLOOR: Duration = Duration::from_millis(25);
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

/// Calm and abuse take turns so often: the machine's own changes fall on both.
const ROUNDS: usize = 3;

/// Thousands that dawdle and some that talk nonsense, at the clients' port and at the peers'.
///
/// What honest callers wait for under abuse is compared with the calm right before it, and the median
/// of the rounds counts: one spell of a busy machine is no finding, and what the abuse does itself is
/// seen in each round.
pub(crate) fn abuse(scene: &Scene<'_>) {
    let cluster = scene.cluster;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the hard limit may be taken");
    refuses_the_malformed(scene);
    let rss_before = NODES.map(|id| rss_mib(cluster.node(id).pid()));
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let calm = p99(scene, Duration::from_secs(3));
        let abused = under_abuse(scene);
        scene.note(format!(
            "p99 {} ms, {} ms under abuse",
            calm.as_millis(),
            abused.as_millis()
        ));
        rounds.push((abused.as_secs_f64() / calm.as_secs_f64(), calm, abused));
    }
    rounds.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (ratio, calm, abused) = rounds[ROUNDS / 2];
    scene.require(ratio <= P99_RATIO_MAX || abused <= P99_FLOOR, || {
        format!("p99 of honest callers went from {calm:?} to {abused:?}, in the median of rounds")
    });
    for (id, before) in NODES.into_iter().zip(rss_before) {
        let grown = rss_mib(cluster.node(id).pid()).saturating_sub(before);
        scene.require(grown < RSS_GROWTH_MIB_MAX, || {
            format!("node {id} grew by {grown} MiB")
        });
    }
}

/// What honest callers wait for while thousands of connections stand and nonsense is talked.
fn under_abuse(scene: &Scene<'_>) -> Duration {
    let (slow, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let refusals = AtomicU64::new(0);
    let p99 = thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        for part in 0..4 {
            let (slow, stop) = (&slow, &stop);
            scope.spawn(move || dawdle(scene, part, slow, stop));
        }
        scope.spawn(|| talk_nonsense(scene, &refusals, &stop));
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
        p99(scene, Duration::from_secs(5))
    });
    scene.effect("slow connections", slow.load(Ordering::Relaxed));
    scene.effect(
        "malformed requests refused",
        refusals.load(Ordering::Relaxed),
    );
    p99
}

/// One malformed request after the other, at every port, until it is told to stop.
fn talk_nonsense(scene: &Scene<'_>, refusals: &AtomicU64, stop: &AtomicBool) {
    let cluster = scene.cluster;
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
fn status_of(address: SocketAddr, bytes: &[u8]) -> Option<u16> {
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
fn is_refused(address: SocketAddr, bytes: &[u8]) -> bool {
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
