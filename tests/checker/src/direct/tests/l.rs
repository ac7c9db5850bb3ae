//! L: what looks see.

use super::*;

#[test]
fn a_look_inside_a_belief_sees_the_holder() {
    let script = Script::new().grant("a", (0, 1), 4, 100);
    passes(&Script::new().grant("a", (0, 1), 4, 100).held((2, 3), 4));
    assert_eq!(broken(&script.free((2, 3))), [Check::L]);
    let other = Script::new().grant("a", (0, 1), 4, 100).held((2, 3), 5);
    assert_eq!(broken(&other), [Check::L]);
}

#[test]
fn a_look_that_is_not_wholly_inside_may_see_anything_new() {
    let script = Script::new()
        .grant("a", (5, 10), 4, 100)
        .release("a", (50, 60))
        .free((9, 12))
        .free((10, 12))
        .free((45, 50))
        .free((45, 55));
    passes(&script);
}

#[test]
fn a_look_does_not_see_what_was_superseded() {
    let script = Script::new()
        .grant("a", (0, 1), 4, 10)
        .grant("b", (20, 21), 5, 1)
        .held((21, 30), 4);
    passes(&script);
    assert_eq!(broken(&script.held((22, 30), 4)), [Check::L]);
}

#[test]
fn a_look_does_not_see_less_than_an_earlier_look() {
    let script = Script::new().held((0, 1), 5).held((2, 3), 4);
    assert_eq!(broken(&script), [Check::L]);
}

#[test]
fn nothing_is_heard_of_a_grant_after_its_release_was_answered() {
    let released = || {
        Script::new()
            .grant("a", (0, 1), 4, 100)
            .release("a", (5, 7))
    };
    passes(&released().held((7, 9), 4));
    assert_eq!(broken(&released().held((8, 9), 4)), [Check::L]);
    let zombie = released().grant("a", (8, 9), 4, 100);
    assert_eq!(broken(&zombie), [Check::L]);
}

#[test]
fn a_release_of_which_nothing_is_known_ends_nothing() {
    let script = Script::new()
        .grant("a", (0, 1), 4, 100)
        .add(Ask::Release, "a", (5, 7), Told::Unknown)
        .held((8, 9), 4);
    passes(&script);
}

#[test]
fn a_release_sent_before_the_grant_was_read_may_have_ended_only_the_wait() {
    let script = Script::new()
        .grant("a", (0, 6), 4, 100)
        .release("a", (5, 7))
        .held((8, 9), 4);
    passes(&script);
}

#[test]
fn a_repeated_release_may_repeat_an_old_answer() {
    let script = Script::new()
        .lost("a", (0, 1))
        .add(Ask::Release, "a", (2, 3), Told::Unknown)
        .named("r")
        .grant("a", (4, 5), 4, 100)
        .release("a", (6, 7))
        .named("r")
        .held((8, 9), 4);
    passes(&script);
}

#[test]
fn a_holder_that_is_told_it_holds_nothing_is_not_seen_again() {
    let script = Script::new()
        .grant("a", (0, 1), 4, 1)
        .add(
            Ask::Extend { extend_by_ms: 5 },
            "a",
            (5, 6),
            refused(404, "lock_not_found"),
        )
        .held((7, 8), 4);
    assert_eq!(broken(&script), [Check::L]);
}
