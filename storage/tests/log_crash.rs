//! Random histories over power cuts, kills and faults, held against a log in memory.
//!
//! A failure prints its seed; `LOG_SEED=n cargo test -p evermind-storage --test log_crash` runs
//! that one again.
#![allow(clippy::unwrap_used)]

mod log_support;
#[path = "log_support/model.rs"]
mod model;

use evermind_storage::disk::sim::Fault;
use log_support::{Rng, run};
use model::{Crash, History};

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("LOG_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..count).collect(),
    }
}

/// A few rounds, each ended by a crash at a call of the disk that the seed picks.
async fn crashes(seed: u64, lies: bool) -> Result<History, String> {
    let mut rng = Rng(seed);
    let mut history = History::new(rng.next());
    if lies {
        history.disk.lie_about_syncs();
    }
    for _ in 0..4 {
        let crash = if rng.once_in(3) {
            Crash::Kill
        } else {
            Crash::PowerCut
        };
        if !rng.once_in(4) {
            let call = history.disk.calls() + rng.below(150);
            history.disk.fail_at(call, Fault::PowerOff);
        }
        history.round(10 + rng.below(60), crash).await?;
    }
    history.round(0, Crash::Kill).await?;
    Ok(history)
}

#[test]
fn what_was_acknowledged_survives_power_cuts_and_kills() {
    let mut acknowledged = 0;
    for seed in seeds(300) {
        match run(crashes(seed, false)) {
            Ok(history) => acknowledged += history.acknowledged,
            Err(error) => panic!("seed {seed}: {error}; again with LOG_SEED={seed}"),
        }
    }
    println!("{acknowledged} appends acknowledged");
    assert!(acknowledged > 0);
}

/// The negative control: the same harness sees it when the disk loses what it acknowledged.
#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    let all = seeds(40);
    let found = all
        .iter()
        .filter(|seed| run(crashes(**seed, true)).is_err());
    let found = found.count();
    println!("found out in {found} of {} histories", all.len());
    assert!(
        found * 2 > all.len(),
        "found out in {found} of {}",
        all.len()
    );
}

/// One history with one fault: what came before the fault is the same each time.
async fn faulty(call: u64, fault: Fault, crash: Crash) -> Result<History, String> {
    let mut history = History::new(11);
    history.round(20, Crash::Kill).await?;
    // Counted from the second round's start, so that recovery is hit too.
    history.disk.fail_at(history.disk.calls() + call, fault);
    history.round(50, crash).await?;
    history.round(10, Crash::PowerCut).await?;
    history.round(0, Crash::Kill).await?;
    Ok(history)
}

fn every_call_fails(fault: Fault) {
    let calls = run(async {
        let mut history = History::new(11);
        history.round(20, Crash::Kill).await.unwrap();
        let before = history.disk.calls();
        history.round(50, Crash::Kill).await.unwrap();
        history.disk.calls() - before
    });
    let mut hit = 0;
    for call in 0..calls {
        for crash in [Crash::Kill, Crash::PowerCut] {
            match run(faulty(call, fault, crash)) {
                Ok(history) => hit += history.disk.faults_hit(),
                Err(error) => panic!("{fault:?} at call {call}, then {crash:?}: {error}"),
            }
        }
    }
    println!("{fault:?}: {hit} faults with an effect over {calls} calls");
    assert!(calls > 100 && hit > 40, "{hit} hits over {calls} calls");
}

#[test]
fn an_io_error_at_any_call_loses_nothing_and_stops_the_log() {
    every_call_fails(Fault::Io);
}

#[test]
fn a_full_disk_at_any_call_loses_nothing_and_stops_the_log() {
    every_call_fails(Fault::Full);
}

#[test]
fn a_short_write_or_read_at_any_call_loses_nothing() {
    every_call_fails(Fault::Short);
}

#[test]
fn the_power_going_at_any_call_loses_nothing() {
    every_call_fails(Fault::PowerOff);
}
