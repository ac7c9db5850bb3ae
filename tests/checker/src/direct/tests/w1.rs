//! W1: the order of the log.

use super::*;

fn placed(entries: [u64; 3]) -> Script {
    Script::new()
        .grant("a", (0, 10), 1, 1)
        .entry(entries[0])
        .on("other")
        .grant("b", (5, 20), 2, 1)
        .entry(entries[1])
        .on("third")
        .grant("c", (11, 12), 3, 1)
        .entry(entries[2])
}

#[test]
fn a_log_that_contradicts_time_is_seen_and_concurrent_ones_may_come_in_any_order() {
    passes(&placed([7, 6, 8]));
    assert_eq!(broken(&placed([7, 6, 7])), [Check::W1]);
}

#[test]
fn a_look_may_see_what_the_last_entry_left() {
    let script = || Script::new().grant("a", (0, 1), 1, 1).entry(7);
    passes(&script().held((2, 3), 1).entry(7));
    assert_eq!(broken(&script().held((2, 3), 1).entry(6)), [Check::W1]);
}
