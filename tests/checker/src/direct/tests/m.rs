//! M: two holders at once.

use super::*;

#[test]
fn a_release_or_a_deadline_ends_a_belief() {
    let script = Script::new()
        .grant("a", (0, 1), 1, 100)
        .release("a", (5, 7))
        .grant("b", (4, 6), 2, 10)
        .grant("c", (8, 14), 3, 10);
    passes(&script);
}

#[test]
fn beliefs_may_touch() {
    // a believes until 10, and b from 10 on.
    let script = Script::new()
        .grant("a", (0, 1), 1, 10)
        .grant("b", (9, 10), 2, 10);
    passes(&script);
}

#[test]
fn two_holders_at_once_are_seen() {
    let script = Script::new()
        .grant("a", (0, 1), 1, 100)
        .grant("b", (2, 3), 2, 100);
    assert_eq!(broken(&script), [Check::M]);
}

#[test]
fn an_overlap_within_the_clock_bound_is_nobodys_fault() {
    let script = Script::new()
        .grant("a", (0, 1), 1, 1_000)
        .grant("b", (920, 950), 2, 100);
    assert_eq!(broken(&script), [Check::M]);
    check_direct(&script.history, TEN_PERCENT, None).assert_clean();
}

#[test]
fn other_locks_do_not_matter() {
    let script = Script::new()
        .grant("a", (0, 1), 1, 100)
        .on("other")
        .grant("b", (2, 3), 2, 100);
    passes(&script);
}

#[test]
fn a_long_belief_is_compared_with_every_later_one() {
    let script = Script::new()
        .grant("a", (0, 1), 1, 1_000)
        .grant("b", (2, 3), 2, 5)
        .grant("c", (20, 21), 3, 5);
    assert_eq!(broken(&script), [Check::M, Check::M]);
}

#[test]
fn an_extension_lengthens_a_belief() {
    let script = Script::new()
        .grant("a", (0, 1), 1, 10)
        .extend("a", (5, 6), 1, 50)
        .grant("b", (19, 20), 2, 9);
    assert_eq!(broken(&script), [Check::M]);
}

#[test]
fn one_uuid_with_two_tokens_at_once_is_seen() {
    let script = Script::new()
        .grant("a", (0, 1), 1, 100)
        .grant("a", (2, 3), 2, 100);
    assert_eq!(broken(&script), [Check::M]);
}

#[test]
fn a_uuid_may_be_granted_anew_after_its_release() {
    let script = Script::new()
        .grant("a", (0, 1), 1, 100)
        .release("a", (2, 3))
        .grant("a", (4, 5), 2, 100);
    passes(&script);
}
