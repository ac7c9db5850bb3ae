//! A wait that its node goes on with is one request in two operations, and only of that node.
#![allow(clippy::unwrap_used)]

mod story;

use evermind_checker::Check;
use evermind_checker::history::{Ask, Record, Told};
use story::Story;

/// An acquire that waits for up to a minute.
const MINUTE_LONG: Ask = Ask::Acquire {
    lease_ms: 5_000,
    retry_attempts: 60,
    retry_delay_ms: 1_000,
    fifo: true,
};

/// A holds, B waits; B's node misses the end of that wait.
fn missed() -> (Story, Record) {
    let mut story = Story::new();
    story.ask("k", "a", MINUTE_LONG);
    let waits = story.ask("k", "b", MINUTE_LONG);
    let missed = story.misses_its_end(waits);
    (story, missed)
}

#[test]
fn a_wait_whose_end_was_in_a_snapshot_goes_on_in_another_operation() {
    let (mut story, missed) = missed();
    story.resume(1, missed);
    story.ask("k", "a", Ask::Release);
    story.end();
    assert!(matches!(story.record("b").told, Told::Granted { .. }));
    let verdict = story.check();
    verdict.assert_clean();
    assert_eq!((verdict.operations, verdict.ambiguous), (3, 0));
}

#[test]
fn a_wait_goes_on_again_where_its_node_stands_still_again() {
    let (mut story, missed) = missed();
    let resumed = story.resume(1, missed);
    let missed = story.misses_its_end(resumed);
    story.resume(1, missed);
    story.ask("k", "a", Ask::Release);
    story.end();
    assert!(matches!(story.record("b").told, Told::Granted { .. }));
    story.check().assert_clean();
}

#[test]
fn w4_another_node_goes_on_with_a_wait() {
    let (mut story, missed) = missed();
    story.resume(2, missed);
    story.end();
    story.breaks(&[Check::W4]);
}

#[test]
fn w4_a_wait_that_was_answered_is_gone_on_with() {
    let mut story = Story::new();
    story.ask("k", "a", MINUTE_LONG);
    story.ask("k", "b", MINUTE_LONG);
    story.ask("k", "a", Ask::Release);
    let answered = story.record("b").clone();
    story.ask("k", "b", Ask::Release);
    story.resume(1, answered);
    story.history.records.pop();
    story.end();
    story.breaks(&[Check::W4]);
}
