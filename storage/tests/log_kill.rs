//! kill -9, again and again, on the file system of this machine.
#![allow(clippy::unwrap_used)]

mod log_support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use evermind_storage::disk::RealDisk;
use evermind_storage::log::{LogOptions, LogStore};
use evermind_storage::runner::Threads;
use evermind_storage::types::Vote;
use log_support::{Rng, append, entries, entry, run};
use openraft::storage::{RaftLogReader, RaftLogStorage};

const DIR: &str = "EVERMIND_TEST_LOG_KILL_DIR";

fn open(dir: &Path) -> LogStore {
    let options = LogOptions {
        segment_bytes: 64 << 10,
        ..LogOptions::default()
    };
    LogStore::open(dir, Arc::new(RealDisk), Arc::new(Threads), options).unwrap()
}

/// Not a test of its own: what the loop below starts, and kills. Says which index is on disk.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    run(async {
        let mut log = open(Path::new(&dir));
        let state = log.get_log_state().await.unwrap();
        let mut next = state.last_log_id.map_or(0, |last| last.index + 1);
        let mut out = std::io::stdout().lock();
        loop {
            let vote = Vote::new(next, 1);
            log.save_vote(&vote).await.unwrap();
            let first: Vec<_> = (next..next + 3).map(|i| entry(1, i, 200)).collect();
            let second: Vec<_> = (next + 3..next + 5).map(|i| entry(1, i, 900)).collect();
            let one = append(&mut log, first).await.unwrap();
            let two = append(&mut log, second).await.unwrap();
            one.await.unwrap().unwrap();
            writeln!(out, "disk {}", next + 2).unwrap();
            two.await.unwrap().unwrap();
            next += 5;
            writeln!(out, "disk {}", next - 1).unwrap();
            if next % 100 == 0 {
                let upto = log_support::id(1, next - 50);
                log.purge(upto).await.unwrap();
            }
        }
    });
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("log");
    let mut rng = Rng(1);
    let end = Instant::now() + Duration::from_secs(4);
    let mut kills = 0;
    let mut index = 0;
    while kills < 3 || (Instant::now() < end && kills < 60) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env(DIR, &dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut left = rng.below(120);
        for line in lines {
            // The kill is heard of when the pipe ends: what was still in it counts.
            if let Some(on_disk) = line.unwrap().strip_prefix("disk ") {
                index = on_disk.parse().unwrap();
            }
            if left == 0 {
                child.kill().unwrap();
            }
            left = left.saturating_sub(1);
        }
        child.wait().unwrap();
        kills += 1;

        run(async {
            let mut log = open(&dir);
            let state = log.get_log_state().await.unwrap();
            assert!(state.last_log_id.unwrap().index >= index);
            let kept = entries(&mut log).await.unwrap();
            let first = state.last_purged_log_id.map_or(0, |id| id.index + 1);
            for (entry, expected) in kept.iter().zip(first..) {
                assert_eq!(entry.log_id.index, expected);
            }
            assert_eq!(
                first + kept.len() as u64 - 1,
                state.last_log_id.unwrap().index
            );
            let vote = log.get_log_reader().await.read_vote().await.unwrap();
            assert!(vote.unwrap().leader_id.term + 4 >= index);
            log.shutdown().await;
        });
    }
    println!("{kills} kills, {index} entries");
}
