//! T2, T3 and T5 pass what was in time, and name what was late.
#![allow(clippy::unwrap_used)]

mod story;

use evermind_checker::history::{Ask, Lost, Moment};
use evermind_checker::witness::check_witness;
use evermind_checker::{Check, ClockBound, Health, Healthy};
use story::{Story, acquire};

const MS: u64 = 1_000_000;

/// Which rules are broken where nothing was wrong all the while, on a network that takes no time.
fn broken(story: &Story) -> Vec<Check> {
    let all = Healthy {
        quiet: Moment(0),
        clear: Moment(0),
        from: Moment(0),
        until: Moment(60_000 * MS),
    };
    let mut ends = story.ends();
    ends.health = Some(Health::new(vec![all], 0, 1_000));
    let verdict = check_witness(&story.history, &story.committed(), ClockBound::EXACT, &ends);
    verdict.violations.iter().map(|v| v.check).collect()
}

/// A holds, B waits for up to a second.
fn waits() -> Story {
    let mut story = Story::new();
    story.ask("k", "a", acquire(5_000));
    story.ask("k", "b", acquire(5_000));
    story
}

/// Others ask and are answered, so that it is known how late it is.
fn passes(story: &mut Story, ms: u64) {
    for number in 0..ms / 10 {
        story.wait(8);
        story.ask("other", &format!("o-{number}"), Ask::Release);
    }
}

#[test]
fn t3_whoever_is_granted_is_told_within_fifty_ms() {
    for (late_ms, found) in [(40, vec![]), (60, vec![Check::T3])] {
        let mut story = waits();
        story.ask("k", "a", Ask::Release);
        passes(&mut story, 300);
        story.record("b").returned.0 += late_ms * MS;
        story.end();
        assert_eq!(broken(&story), found, "{late_ms} ms");
    }
}

#[test]
fn t2_a_window_ends_within_fifty_ms() {
    for (late_ms, found) in [(30, vec![]), (80, vec![Check::T2])] {
        let mut story = waits();
        passes(&mut story, 900);
        let window_ends = 102 + 2 + 1_000;
        story.wait_until(window_ends + late_ms);
        story.tick();
        passes(&mut story, 300);
        story.end();
        assert_eq!(broken(&story), found, "{late_ms} ms");
    }
}

#[test]
fn t5_a_hang_up_is_in_the_log_within_a_second() {
    for (late_ms, found) in [(500, vec![]), (1_100, vec![Check::T5])] {
        let mut story = Story::new();
        story.ask("k", "a", acquire(60_000));
        let waits = story.ask(
            "k",
            "b",
            Ask::Acquire {
                lease_ms: 5_000,
                retry_attempts: 60,
                retry_delay_ms: 1_000,
                fifo: true,
            },
        );
        passes(&mut story, late_ms);
        story.hang_up(waits, "k", "b");
        let left = story.record("b");
        left.way.lost = Some(Lost::HungUp);
        left.returned.0 -= late_ms * MS;
        passes(&mut story, 1_500);
        story.end();
        assert_eq!(broken(&story), found, "{late_ms} ms");
    }
}

#[test]
fn t3_a_node_that_is_back_has_its_callers_in_line() {
    let mut story = Story::new();
    story.ask("k", "a", acquire(60_000));
    let waits = story.ask(
        "k",
        "b",
        Ask::Acquire {
            lease_ms: 5_000,
            retry_attempts: 60,
            retry_delay_ms: 1_000,
            fifo: true,
        },
    );
    passes(&mut story, 500);
    // Nothing is wrong, and the place is dropped for want of a caller.
    let missed = story.misses_its_end(waits);
    story.resume(1, missed);
    passes(&mut story, 500);
    story.ask("k", "a", Ask::Release);
    story.end();
    let found = broken(&story);
    assert!(found.contains(&Check::T3), "{found:?}");
}
