//! Orders to stop, and machines that are short of something.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use evermind_harness::cluster::NODES;
use evermind_harness::until;

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
                    scene.spell(95);
                    // What the kernel says of it, and not that a signal was sent.
                    stops += u64::from(cluster.node(victim).is_stopped());
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
