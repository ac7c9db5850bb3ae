//! Q: the order of the line.

use super::*;

/// Which rules break where the acquires' first entries are those of their log indexes' tens.
fn with_entries(script: &Script, entries: &[(&str, u64)]) -> Vec<Check> {
    let entry = |record: &Record| {
        let known = entries.iter().find(|(uuid, _)| *uuid == record.uuid);
        known.map(|(_, entry)| *entry)
    };
    let verdict = check_direct(&script.history, ClockBound::EXACT, Some(&entry));
    verdict.violations.iter().map(|v| v.check).collect()
}

fn line() -> Script {
    Script::new()
        .add(ACQUIRE, "a", (0, 30), granted(2, 1, 25))
        .entry(30)
        .add(ACQUIRE, "b", (0, 20), granted(1, 1, 15))
        .entry(20)
}

#[test]
fn the_line_is_served_in_the_order_of_its_entries() {
    assert_eq!(with_entries(&line(), &[("b", 10), ("a", 11)]), []);
    assert_eq!(with_entries(&line(), &[("a", 10), ("b", 11)]), [Check::Q]);
}

#[test]
fn one_whose_entry_is_not_told_is_not_compared() {
    assert_eq!(with_entries(&line(), &[("b", 11)]), []);
}

#[test]
fn one_that_asked_again_may_have_been_passed_over() {
    let script = line().lost("a", (0, 3));
    assert_eq!(with_entries(&script, &[("a", 10), ("b", 11)]), []);
}

#[test]
fn one_that_left_before_was_not_passed_over_and_one_that_left_later_was() {
    let left = |index| {
        Script::new()
            .add(ACQUIRE, "a", (0, 30), refused(423, "lock_held"))
            .entry(index)
            .add(ACQUIRE, "b", (0, 20), granted(1, 1, 15))
            .entry(20)
    };
    let entries = [("a", 10), ("b", 11)];
    assert_eq!(with_entries(&left(19), &entries), []);
    assert_eq!(with_entries(&left(25), &entries), [Check::Q]);
}

#[test]
fn time_alone_tells_who_came_first_where_the_wait_was_long() {
    // a had waited 49 ms of the 60 at the least: it stood there at 51.
    let overtaken = |asked_ms| {
        Script::new()
            .add(ACQUIRE, "a", (0, 100), granted(2, 1, 50))
            .add(ACQUIRE, "b", (asked_ms, 90), granted(1, 1, 1))
    };
    let check = |script: Script| check_line_by_time(&script.history, ClockBound::EXACT);
    check(overtaken(51)).assert_clean();
    assert_eq!(check(overtaken(52)).count(Check::Q), 1);
}
