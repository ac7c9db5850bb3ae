//! F2: tokens rise.

use super::*;

#[test]
fn a_token_that_went_back_is_seen_and_concurrent_ones_may_come_in_any_order() {
    let concurrent = Script::new()
        .grant("a", (0, 10), 7, 1)
        .grant("b", (5, 20), 6, 1);
    passes(&concurrent);
    let back = concurrent.on("other").grant("c", (11, 12), 5, 1);
    assert_eq!(broken(&back), [Check::F2]);
}

#[test]
fn the_request_that_made_a_grant_may_be_an_earlier_unknown_one() {
    let script = Script::new()
        .on("other")
        .lost("b", (0, 5))
        .grant("b", (50, 51), 6, 1)
        .on("k")
        .grant("a", (10, 11), 7, 1);
    passes(&script);
}

#[test]
fn a_token_that_a_look_saw_counts_as_given_out() {
    let script = Script::new()
        .held((0, 1), 7)
        .on("other")
        .grant("a", (2, 3), 7, 1);
    let broken = broken(&script);
    assert!(broken.contains(&Check::F2), "{broken:?}");
}
