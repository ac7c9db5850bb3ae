//! One seed as a whole.

use evermind_sim::run;
use evermind_sim::trace::Trace;

/// Kills, power cuts, full disks, delays. Here it is not repeatable to the bit: that takes what `cargo xtask sim` sets up.
const SEED: u64 = 3;

#[test]
fn a_whole_seed_is_clean_and_not_for_want_of_trouble() {
    let report = run::seed(SEED, &Trace::new(None));
    let outcome = &report.outcome;
    assert!(
        outcome.is_clean(),
        "{:?}\n{}\n--- again: cargo xtask sim --seed {SEED}",
        outcome.broken,
        outcome.verdict
    );
    assert_eq!(report.seed, SEED);
    let (shown, brought) = (&report.injected, &report.brought);
    assert!(shown.values().sum::<u64>() > 0, "{report:?}");
    let no_more = |(kind, shown): (_, &u64)| brought.get(kind) >= Some(shown);
    assert!(shown.iter().all(no_more), "{report:?}");
    assert!(report.starts >= 3, "{report:?}");
    assert!(report.simulated_us >= 25_000_000, "{report:?}");
    assert!(report.healed_us < 30_000_000, "{report:?}");
    assert!(outcome.grants > 0 && outcome.entries > 0, "{report:?}");
    assert!(outcome.verdict.operations > 0, "{report:?}");
    assert!(outcome.verdict.live_views > 100, "{report:?}");
    assert!(report.effects.delivered > 1_000, "{report:?}");
}
