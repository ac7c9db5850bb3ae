//! F1: one token, one acquisition.

use super::*;

#[test]
fn a_token_for_two_is_seen() {
    let script = Script::new()
        .grant("a", (0, 1), 1, 2)
        .grant("b", (0, 5), 1, 2);
    assert_eq!(broken(&script), [Check::F1]);
}

#[test]
fn asking_again_under_the_same_uuid_is_one_grant() {
    let script = Script::new()
        .grant("a", (0, 1), 1, 30)
        .grant("a", (2, 22), 1, 28);
    passes(&script);
}

#[test]
fn a_token_that_a_look_saw_on_another_lock_is_seen() {
    let script = Script::new()
        .grant("a", (0, 9), 1, 2)
        .on("other")
        .held((0, 9), 1);
    assert_eq!(broken(&script), [Check::F1]);
}
