//! One story a bug.

use evermind_lock::command::Action;
use evermind_lock::mutant::Mutant;
use evermind_lock::outcome::Outcome;

use crate::story::{Story, acquire, granted, left_ms, op, told_twice};

const WINDOW_MS: u64 = 60_000;

#[test]
fn early_expiry_ends_a_lease_before_its_holder_knows() {
    let (right, wrong) = told_twice(Mutant::EarlyExpiry, || {
        let mut story = Story::begins();
        let told = granted(&story.acquire("ann", 0));
        story.at(9_500).expire();
        (told, story.is_held())
    });
    assert_eq!(right, (Some((1, 10_000)), true));
    assert_eq!(wrong, (Some((1, 10_000)), false));
}

#[test]
fn a_token_comes_again_after_a_restart() {
    let (right, wrong) = told_twice(Mutant::TokenResetOnRestart, || {
        let mut story = Story::begins();
        story.acquire("ann", 0);
        story.release("ann");
        story.restarts();
        granted(&story.acquire("ben", 0)).map(|(token, _)| token)
    });
    assert_eq!((right, wrong), (Some(2), Some(1)));
}

#[test]
fn a_repeated_extend_extends_twice() {
    let (right, wrong) = told_twice(Mutant::DoubleExtendOnRetry, || {
        let mut story = Story::begins();
        story.acquire("ann", 0);
        story.extend("ann", Some("once"));
        left_ms(&story.extend("ann", Some("once")))
    });
    assert_eq!((right, wrong), (Some(20_000), Some(30_000)));
}

#[test]
fn an_acquire_that_was_answered_comes_back_from_the_dead() {
    let (right, wrong) = told_twice(Mutant::ZombieAcquire, || {
        let mut story = Story::begins();
        story.acquire("ann", 0);
        story.release("ann");
        story.all_answered();
        story.operation(op(1, 1), acquire("ann", 0, None));
        story.is_held()
    });
    assert_eq!((right, wrong), (false, true));
}

#[test]
fn a_duplicate_of_an_acquire_that_nobody_was_told_of_yet_is_a_zombie_too() {
    let (right, wrong) = told_twice(Mutant::ZombieAcquire, || {
        let mut story = Story::begins();
        story.acquire("ann", 0);
        story.release("ann");
        granted(&story.operation(op(1, 1), acquire("ann", 0, None))).map(|(token, _)| token)
    });
    assert_eq!((right, wrong), (Some(1), Some(2)));
}

#[test]
fn a_waiter_whose_node_is_gone_is_granted() {
    let (right, wrong) = told_twice(Mutant::GrantToDeadWaiter, || {
        let mut story = Story::begins();
        story.acquire("ann", 0);
        story.operation(op(2, 1), acquire("ben", WINDOW_MS, None));
        story.acquire("cat", WINDOW_MS);
        story.own(Action::DetachNode { node: 2, boot: 1 });
        story.release("ann");
        story.told()
    });
    assert_eq!(right, [("cat".to_owned(), 2)]);
    assert_eq!(wrong, [("ben".to_owned(), 2)]);
}

#[test]
fn the_last_in_line_is_first() {
    let (right, wrong) = told_twice(Mutant::FifoBypass, || {
        let mut story = Story::begins();
        story.acquire("ann", 0);
        story.acquire("ben", WINDOW_MS);
        story.acquire("cat", WINDOW_MS);
        story.release("ann");
        story.told()
    });
    assert_eq!(right, [("ben".to_owned(), 2)]);
    assert_eq!(wrong, [("cat".to_owned(), 2)]);
}

#[test]
fn anybody_releases_anybodys_lock() {
    let (right, wrong) = told_twice(Mutant::ReleaseOfAnothersLock, || {
        let mut story = Story::begins();
        story.acquire("ann", 0);
        let released = story.release("ben") == Outcome::Released;
        (released, story.is_held())
    });
    assert_eq!(right, (false, true));
    assert_eq!(wrong, (true, false));
}

#[test]
fn a_repeated_acquire_is_paid_twice() {
    let (right, wrong) = told_twice(Mutant::UsageCountedTwice, || {
        let mut story = Story::begins();
        story.acquire_named("ann", "once");
        story.acquire_named("ann", "once");
        story.used()
    });
    assert_eq!((right, wrong), (1, 2));
}

#[test]
fn a_restored_table_does_not_know_what_it_answered() {
    let (right, wrong) = told_twice(Mutant::IdempotencyForgottenBySnapshot, || {
        let mut story = Story::begins();
        story.acquire("ann", 0);
        story.extend("ann", Some("once"));
        story.restarts();
        left_ms(&story.extend("ann", Some("once")))
    });
    assert_eq!((right, wrong), (Some(20_000), Some(30_000)));
}

#[test]
fn a_restored_line_is_never_served() {
    let (right, wrong) = told_twice(Mutant::WaiterLostOverSnapshot, || {
        let mut story = Story::begins();
        story.acquire("ann", 0);
        story.acquire("ben", WINDOW_MS);
        story.restarts();
        story.release("ann");
        story.told()
    });
    assert_eq!(right, [("ben".to_owned(), 2)]);
    assert_eq!(wrong, []);
}

#[test]
fn a_hang_up_gives_back_what_a_retry_was_told_of() {
    let (right, wrong) = told_twice(Mutant::HangUpEndsRetriedGrant, || {
        let mut story = Story::begins();
        story.acquire("ann", 0);
        story.acquire("ann", 0);
        story.hang_up(op(1, 1), "ann");
        story.is_held()
    });
    assert_eq!((right, wrong), (true, false));
}

#[test]
fn two_are_told_of_one_grant() {
    let (right, wrong) = told_twice(Mutant::HandOffGrantsTwo, || {
        let mut story = Story::begins();
        story.acquire("ann", 0);
        story.acquire("ben", WINDOW_MS);
        story.acquire("cat", WINDOW_MS);
        story.release("ann");
        let mut told = story.told();
        told.sort();
        told
    });
    assert_eq!(right, [("ben".to_owned(), 2)]);
    assert_eq!(wrong, [("ben".to_owned(), 2), ("cat".to_owned(), 2)]);
}

#[test]
fn a_checkpoint_does_not_hear_of_an_extend() {
    let (right, wrong) = told_twice(Mutant::ExtensionNotKept, || {
        let mut story = Story::begins();
        story.acquire("ann", 0);
        assert!(story.is_marked());
        story.extend("ann", None);
        story.is_marked()
    });
    assert_eq!((right, wrong), (true, false));
}
