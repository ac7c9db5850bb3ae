//! X: what fenced stores take.

use super::*;

#[test]
fn a_store_takes_no_token_below_its_highest() {
    let script = Script::new()
        .write("a", 1, 0, true)
        .write("b", 2, 5, true)
        .write("a", 1, 6, false)
        .write("b", 2, 7, true);
    passes(&script);
    assert_eq!(broken(&script.write("a", 1, 8, true)), [Check::X]);
}

#[test]
fn a_true_holder_is_not_refused() {
    let script = || Script::new().grant("a", (0, 1), 4, 10);
    passes(&script().write("a", 4, 10, false));
    assert_eq!(broken(&script().write("a", 4, 9, false)), [Check::X]);
}

#[test]
fn each_lock_guards_a_store_of_its_own() {
    let script = Script::new()
        .write("a", 9, 0, true)
        .on("other")
        .write("b", 2, 5, true);
    passes(&script);
}
