//! Random histories: whatever happens, in whatever order, the rules hold.

mod ledger;
mod steps;
mod world;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use evermind_lock::record::{Record, RecordKey};
use evermind_lock::table::LockTable;
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseResult, TestRunner};

use self::steps::{Step, Time, step, time};
use self::world::World;

/// A checkpoint that writes only what changed has the whole table.
fn keep_up(kept: &mut BTreeMap<RecordKey, Record>, table: &mut LockTable) -> TestCaseResult {
    let frozen = table.freeze();
    for key in table.take_changes().keys() {
        match frozen.record(&key) {
            Some(record) => kept.insert(key, record),
            None => kept.remove(&key),
        };
    }
    let whole: BTreeMap<_, _> = frozen.records().collect();
    prop_assert!(whole == *kept, "a change was not named");
    Ok(())
}

/// One history, its checkpoints and its replay.
fn live(
    steps: &[(Step, Time)],
    checkpoint_every: usize,
    restored_at: prop::sample::Index,
) -> TestCaseResult {
    let mut world = World::new();
    let mut kept = BTreeMap::new();
    for (number, (step, time)) in steps.iter().enumerate() {
        world.take(step, time)?;
        if number % checkpoint_every == 0 {
            keep_up(&mut kept, &mut world.table)?;
        }
    }
    keep_up(&mut kept, &mut world.table)?;
    world.restored()?;
    world.replay(restored_at.index(world.log.len()))
}

#[test]
fn rules_hold() {
    let seed = match std::env::var("EVERMIND_SEED") {
        Ok(seed) => seed.parse().expect("EVERMIND_SEED is a number"),
        Err(_) => RandomState::new().build_hasher().finish(),
    };
    // 256 histories, or PROPTEST_CASES.
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..ProptestConfig::default()
    });
    let histories = (
        prop::collection::vec((step(), time()), 1..80),
        1..20_usize,
        any::<prop::sample::Index>(),
    );
    let ran = runner.run(&histories, |(steps, checkpoint_every, restored_at)| {
        live(&steps, checkpoint_every, restored_at)
    });
    if let Err(why) = ran {
        panic!(
            "{why}\nrun it again: \
             EVERMIND_SEED={seed} cargo test -p evermind-lock --test rules histories"
        );
    }
}
