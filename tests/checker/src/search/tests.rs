//! The search: what it explains, and what it cannot.

use super::*;
use crate::history::{Ask, Told};
use crate::script::{ACQUIRE, Script, granted, refused};
use crate::verdict::Check;

#[track_caller]
fn passes(script: &Script) {
    let verdict = search(&script.history, ClockBound::EXACT, WindowOptions::default());
    verdict.assert_clean();
    assert!(verdict.windows > 0, "nothing was searched");
}

#[track_caller]
fn fails(script: &Script) {
    let verdict = search(&script.history, ClockBound::EXACT, WindowOptions::default());
    assert_eq!(verdict.count(Check::G), 1, "{verdict}");
}

#[test]
fn a_lock_goes_from_hand_to_hand() {
    let script = Script::new()
        .free((0, 1))
        .grant("a", (2, 3), 1, 100)
        .held((4, 5), 1)
        .add(ACQUIRE, "b", (4, 12), granted(2, 101, 5))
        .release("a", (9, 11))
        .held((13, 14), 2)
        .release("b", (15, 16))
        .free((17, 18));
    passes(&script);
}

#[test]
fn a_look_may_see_what_was_while_it_looked_or_what_came() {
    let script = || {
        Script::new()
            .grant("a", (0, 1), 1, 100)
            .release("a", (2, 6))
            .add(ACQUIRE, "b", (2, 6), granted(2, 101, 3))
    };
    passes(&script().held((3, 4), 1).held((3, 5), 2));
    // The second look came after the first was answered.
    fails(&script().held((3, 4), 2).held((5, 6), 1));
}

#[test]
fn a_lock_is_not_granted_while_its_lease_runs() {
    let script = Script::new().grant("a", (0, 1), 1, 100);
    passes(
        &Script::new()
            .grant("a", (0, 1), 1, 100)
            .grant("b", (90, 100), 2, 1),
    );
    fails(&script.grant("b", (90, 99), 2, 1));
}

#[test]
fn an_extension_puts_the_end_off() {
    let script = || {
        Script::new()
            .grant("a", (0, 1), 1, 10)
            .extend("a", (5, 6), 1, 50)
    };
    passes(&script().grant("b", (20, 55), 2, 1));
    fails(&script().grant("b", (20, 54), 2, 1));
}

#[test]
fn a_token_is_not_given_twice() {
    let script = Script::new()
        .grant("a", (0, 1), 5, 10)
        .release("a", (2, 3))
        .grant("b", (4, 5), 5, 10);
    fails(&script);
}

#[test]
fn an_acquire_without_an_answer_may_hold_the_lock_or_not() {
    let lost = || Script::new().free((0, 1)).lost("a", (2, 3));
    passes(&lost().grant("b", (4, 5), 1, 10));
    passes(&lost().held((4, 5), 1));
    passes(&lost().extend("a", (4, 5), 1, 10));
    passes(&lost().add(ACQUIRE, "b", (4, 5), refused(423, "lock_held")));
    let never = Script::new().free((0, 1)).held((4, 5), 1);
    fails(&never);
}

#[test]
fn a_release_without_an_answer_may_have_been_made_or_not() {
    let lost = || {
        Script::new()
            .grant("a", (0, 1), 1, 100)
            .add(Ask::Release, "a", (2, 3), Told::Unknown)
    };
    passes(&lost().grant("b", (4, 5), 2, 10));
    passes(&lost().held((4, 5), 1));
    fails(&lost().held((4, 5), 1).free((6, 7)).held((8, 9), 1));
}

#[test]
fn a_refusal_needs_a_holder() {
    let script = || Script::new().free((0, 1));
    fails(&script().add(ACQUIRE, "b", (2, 3), refused(423, "lock_held")));
    fails(&script().add(Ask::Release, "b", (2, 3), refused(409, "not_owner")));
    passes(&script().add(Ask::Release, "b", (2, 3), refused(404, "lock_not_found")));
    let held = script().grant("a", (2, 3), 1, 10);
    fails(&held.add(Ask::Release, "a", (4, 5), refused(409, "not_owner")));
}

#[test]
fn a_release_may_have_ended_a_wait() {
    let script = Script::new()
        .grant("a", (0, 1), 1, 100)
        .add(ACQUIRE, "b", (2, 6), refused(423, "lock_held"))
        .release("b", (4, 5))
        .held((7, 8), 1);
    passes(&script);
}

#[test]
fn a_stranger_releases_nothing() {
    let script = Script::new()
        .grant("a", (0, 1), 1, 100)
        .release("b", (4, 5));
    fails(&script);
}

#[test]
fn many_that_are_refused_together_cost_little() {
    let mut script = Script::new().grant("a", (0, 1), 1, 1_000);
    for waiter in 0..60 {
        let uuid = format!("w{waiter}");
        script = script.add(ACQUIRE, &uuid, (2, 50 + waiter), refused(423, "lock_held"));
    }
    passes(&script);
}

#[test]
fn a_search_that_is_too_long_is_undecided() {
    let options = WindowOptions {
        budget: 1,
        ..WindowOptions::default()
    };
    let script = Script::new().grant("a", (0, 1), 1, 10).held((2, 3), 1);
    let verdict = search(&script.history, ClockBound::EXACT, options);
    assert_eq!(verdict.undecided.len(), 1);
    assert!(!verdict.is_clean());
}

#[test]
fn windows_are_picked_over_the_whole_history_and_join() {
    let script = || {
        let mut script = Script::new();
        for round in 0..40 {
            let from = 10 * round;
            script = script
                .grant("a", (from, from + 1), round + 1, 100)
                .release("a", (from + 2, from + 3));
        }
        script
    };
    let some = |windows_per_key, script: &Script| {
        let options = WindowOptions {
            max_records: 4,
            windows_per_key,
            ..WindowOptions::default()
        };
        search(&script.history, ClockBound::EXACT, options)
    };
    assert_eq!(some(100, &script()).windows, 20);
    assert_eq!(some(3, &script()).windows, 3);
    some(3, &script()).assert_clean();
    // The grant and what contradicts it are in windows that follow one another.
    let wrong = script()
        .grant("b", (400, 401), 60, 100)
        .on("k")
        .free((402, 403));
    assert_eq!(some(100, &wrong).count(Check::G), 1);
}
