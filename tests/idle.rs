//! Shows that a cluster which has nothing to do sleeps.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::harness::TestCluster;

/// How long wake-ups are counted. The fewest of [`TRIES`] times count: a node may still have had
/// something to do in one.
const WINDOW: Duration = Duration::from_secs(2);
const TRIES: usize = 3;

/// A leader needs 30: for 6 heartbeats and their answers, four looks at the clock, and seven threads of
/// the storage engine that look once. With the clock of consensus always on it was 72.
const WAKE_UPS_A_SECOND_MAX: u64 = 50;

/// How often any thread of the process has gone to sleep.
fn sleeps(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads
        .filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("status")).ok())
        .filter_map(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            line.trim().parse::<u64>().ok()
        })
        .sum()
}

#[test]
fn an_idle_cluster_sleeps() {
    let cluster = TestCluster::start();
    cluster.await_members_recorded();
    let mut fewest = [u64::MAX; 3];
    for _ in 0..TRIES {
        let pids = [1, 2, 3].map(|id| cluster.node(id).pid());
        let before = pids.map(sleeps);
        // What is measured is time in which nothing happens.
        thread::sleep(WINDOW);
        for (fewest, (pid, before)) in fewest.iter_mut().zip(pids.into_iter().zip(before)) {
            *fewest = (*fewest).min((sleeps(pid) - before) / WINDOW.as_secs());
        }
    }
    assert!(
        fewest
            .iter()
            .all(|wake_ups| *wake_ups <= WAKE_UPS_A_SECOND_MAX),
        "wake-ups a second of nodes 1, 2, 3: {fewest:?}, at most {WAKE_UPS_A_SECOND_MAX} are needed; \
         `strace -f -p PID` shows what for"
    );
}
