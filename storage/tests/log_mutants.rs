//! Each seeded bug in the log does what it says.
//! Reproduce: `RUSTFLAGS="--cfg evermind_mutants" cargo test -p evermind-storage --test log_mutants`
#![cfg(evermind_mutants)]
#![allow(clippy::unwrap_used)]

mod log_support;

use std::sync::{Mutex, PoisonError};

use evermind_lock::mutant::{self, Mutant};
use evermind_storage::disk::sim::SimDisk;
use evermind_storage::types::Vote;
use log_support::{append_synced, entry, open, run, segments};
use openraft::storage::{RaftLogReader, RaftLogStorage};

const SECTOR: usize = 512;

/// One bug is picked at a time in a process, and tests share theirs.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What `story` comes to without any bug, and with this one.
fn told_twice<T, F: Future<Output = T>>(mutant: Mutant, story: impl Fn() -> F) -> (T, T) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    mutant::pick(None);
    let right = run(story());
    mutant::pick(Some(mutant));
    let wrong = run(story());
    mutant::pick(None);
    (right, wrong)
}

/// A disk with a vote and two acknowledged batches, as the log left it.
async fn two_batches() -> SimDisk {
    let disk = SimDisk::default();
    let mut log = open(&disk).unwrap();
    log.save_vote(&Vote::new(1, 1)).await.unwrap();
    append_synced(&mut log, vec![entry(1, 0, 0)]).await.unwrap();
    append_synced(&mut log, vec![entry(1, 1, 40)])
        .await
        .unwrap();
    log.shutdown().await;
    disk
}

/// The index of the newest entry that is there, if the log opens.
fn last(disk: &SimDisk) -> Option<u64> {
    let recovered = open(disk).ok()?.recovered();
    recovered.last.map(|last| last.index)
}

#[test]
fn a_power_cut_takes_what_was_acknowledged() {
    let (right, wrong) = told_twice(Mutant::LostFsync, || async {
        let disk = two_batches().await;
        (0..20).all(|seed| last(&disk.power_cut(seed)) == Some(1))
    });
    assert_eq!((right, wrong), (true, false));
}

#[test]
fn a_vote_does_not_outlive_its_process_and_entries_do() {
    let (right, wrong) = told_twice(Mutant::VoteNotPersisted, || async {
        let disk = two_batches().await.kill();
        let mut log = open(&disk).unwrap();
        let vote = log.get_log_reader().await.read_vote().await.unwrap();
        (vote, log.recovered().last.map(|last| last.index))
    });
    assert_eq!(right, (Some(Vote::new(1, 1)), Some(1)));
    assert_eq!(wrong, (None, Some(1)));
}

#[test]
fn a_flipped_bit_costs_an_acknowledged_batch() {
    let (right, wrong) = told_twice(Mutant::DamagedTailCut, || async {
        let disk = two_batches().await.kill();
        let [file] = segments(&disk).try_into().unwrap();
        let mut bytes = disk.contents(&file);
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes[end / SECTOR * SECTOR + 30] ^= 1;
        disk.set_contents(&file, bytes);
        (open(&disk).is_ok(), last(&disk))
    });
    assert_eq!(right, (false, None));
    assert_eq!(wrong, (true, Some(0)));
}
