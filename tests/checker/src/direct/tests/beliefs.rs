//! What holders may believe.

use super::*;

#[test]
fn a_fast_clock_shortens_the_belief_exactly() {
    // 1,100 ms by a clock 10% fast are 1,000 true ones; one more may be lost to rounding.
    let script = Script::new().grant("a", (5, 7), 1, 1_100);
    assert_eq!(believed(&script, TEN_PERCENT), [(ms(7), ms(1_005))]);
    assert_eq!(believed(&script, ClockBound::EXACT), [(ms(7), ms(1_105))]);
    // Rounded down: 1 ms by that clock is 0.909090 true ones.
    assert_eq!(TEN_PERCENT.deadline(ms(0), 2), Moment(909_090));
    assert_eq!(TEN_PERCENT.deadline(ms(0), 0), ms(0));
}

#[test]
fn the_time_waited_is_part_of_it() {
    let script = Script::new().add(ACQUIRE, "a", (0, 40), granted(1, 11, 30));
    assert_eq!(believed(&script, ClockBound::EXACT), [(ms(40), ms(40))]);
    let script = Script::new().add(ACQUIRE, "a", (0, 35), granted(1, 11, 30));
    assert_eq!(believed(&script, ClockBound::EXACT), [(ms(35), ms(40))]);
}

#[test]
fn a_release_ends_it_when_sent_whatever_it_is_told() {
    for told in [Told::Released, Told::Unknown, refused(503, "no_leader")] {
        let script = Script::new()
            .grant("a", (0, 1), 1, 100)
            .add(Ask::Release, "a", (5, 7), told);
        assert_eq!(believed(&script, ClockBound::EXACT), [(ms(1), ms(5))]);
    }
}

#[test]
fn a_release_that_was_over_before_the_grant_was_asked_for_does_not_count() {
    let script = Script::new()
        .release("a", (0, 1))
        .grant("a", (2, 3), 9, 100);
    assert_eq!(believed(&script, ClockBound::EXACT), [(ms(3), ms(102))]);
}

#[test]
fn a_release_that_may_come_late_counts_always() {
    let script = Script::new()
        .add(Ask::Release, "a", (0, 1), Told::Unknown)
        .grant("a", (2, 3), 9, 100);
    assert_eq!(believed(&script, ClockBound::EXACT), [(ms(3), ms(0))]);
}

#[test]
fn an_unknown_acquire_gives_none_and_may_have_asked_for_a_later_grant() {
    let script = Script::new()
        .lost("a", (0, 10))
        .grant("a", (20, 21), 4, 100)
        .grant("a", (22, 23), 4, 98);
    let grants = grants(&script.history, ClockBound::EXACT);
    assert_eq!(grants.len(), 1);
    assert_eq!((grants[0].asked, grants[0].acked), (ms(0), ms(21)));
}

#[test]
fn an_extension_that_was_told_alone_tells_of_a_grant() {
    let script = Script::new()
        .lost("a", (0, 10))
        .extend("a", (20, 21), 4, 100);
    assert_eq!(believed(&script, ClockBound::EXACT), [(ms(21), ms(120))]);
}
