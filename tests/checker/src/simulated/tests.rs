//! Whatever the network does, a right server is never accused; a wrong one is, by the rule that
//! stands against its bug.

use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::clocks::ClockBound;
use crate::history::Record;
use crate::verdict::{Check, Verdict};
use crate::{WindowOptions, check_direct, check_line_by_time, search};

fn judge(run: &Run, clocks: ClockBound<'_>) -> Verdict {
    let Run { history, entries } = run;
    let entry = |record: &Record| entries.get(&record.uuid).copied();
    let mut verdict = check_direct(history, clocks, Some(&entry));
    verdict.merge(check_line_by_time(history, clocks));
    verdict.merge(search(history, clocks, WindowOptions::default()));
    verdict
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_right_server_is_never_accused(
        seed: u64,
        clients in 1..12_u64,
        keys in 1..4_u64,
        requests in 1..400_usize,
        lost_per_mille in 0..250_u64,
        skew_per_mille in -100..=100_i64,
    ) {
        let conditions = Conditions {
            seed, clients, keys, requests, lost_per_mille, skew_per_mille, bug: None,
        };
        let rate_per_mille = u64::try_from(skew_per_mille).unwrap_or(0);
        let verdict = judge(&run(conditions), ClockBound { rate_per_mille, ..ClockBound::EXACT });
        prop_assert!(verdict.is_clean(), "{conditions:?}: {verdict}");
    }
}

/// The rules that see `bug`, and in how many of ten runs anything was seen.
fn seen(bug: Bug) -> (Vec<Check>, usize) {
    let mut by = Vec::new();
    let mut runs = 0;
    for seed in 0..10 {
        let conditions = Conditions {
            seed,
            bug: Some(bug),
            ..Conditions::default()
        };
        let verdict = judge(&run(conditions), ClockBound::EXACT);
        runs += usize::from(!verdict.violations.is_empty());
        by.extend(verdict.violations.iter().map(|v| v.check));
    }
    by.sort_unstable();
    by.dedup();
    (by, runs)
}

#[test]
fn every_bug_is_seen_by_the_rule_that_stands_against_it() {
    for bug in Bug::ALL {
        let (by, runs) = seen(bug);
        println!("{bug:?}: seen by {by:?} in {runs} of 10 runs");
        let due = match bug {
            Bug::EndsEarly | Bug::GrantsTwice | Bug::ExtendsInWords | Bug::TakesFromAnother => {
                Check::M
            }
            Bug::TokenGoesBack => Check::F1,
            Bug::LivesAfterRelease | Bug::LooksBack => Check::L,
            Bug::ServesTheLast => Check::Q,
            Bug::ForgetsNames => Check::W4,
            Bug::StoreForgets => Check::X,
        };
        assert!(by.contains(&due), "{bug:?} was seen by {by:?} alone");
        if bug == Bug::TokenGoesBack {
            assert!(by.contains(&Check::F2), "{by:?}");
        }
        // Of stores, lines and names the search knows nothing.
        let beyond = [Bug::StoreForgets, Bug::ServesTheLast, Bug::ForgetsNames];
        if !beyond.contains(&bug) {
            assert!(by.contains(&Check::G), "{bug:?}: the search saw nothing");
        }
    }
}

#[test]
fn a_fast_clock_is_forgiven_within_the_bound_and_not_beyond() {
    let wrong = |skew_per_mille, rate_per_mille| {
        (0..20).any(|seed| {
            let conditions = Conditions {
                seed,
                skew_per_mille,
                lost_per_mille: 5,
                ..Conditions::default()
            };
            let verdict = judge(
                &run(conditions),
                ClockBound {
                    rate_per_mille,
                    ..ClockBound::EXACT
                },
            );
            !verdict.is_clean()
        })
    };
    assert!(!wrong(100, 100));
    assert!(wrong(400, 0), "leases that end after 5/7 of their time");
}

/// How long a history of many records takes; nothing is asserted of it, since it is the machine's.
#[test]
fn a_long_history_is_judged_at_once() {
    let run = run(Conditions {
        clients: 64,
        keys: 40,
        requests: 100_000,
        ..Conditions::default()
    });
    let began = Instant::now();
    let entry = |record: &Record| run.entries.get(&record.uuid).copied();
    let mut verdict = check_direct(&run.history, ClockBound::EXACT, Some(&entry));
    let direct = began.elapsed();
    verdict.merge(search(
        &run.history,
        ClockBound::EXACT,
        WindowOptions::default(),
    ));
    let all = began.elapsed();
    println!("{direct:?} for the direct rules, {all:?} with the search: {verdict}");
    verdict.assert_clean();
    assert!(verdict.operations >= 100_000);
}
