//! Each rule: what it lets pass, and what it must see.

use super::*;
use crate::grants::grants;
use crate::history::{Ask, Moment, Told};
use crate::script::{ACQUIRE, Script, granted, ms, refused};
use crate::verdict::Check;

const TEN_PERCENT: ClockBound = ClockBound {
    rate_per_mille: 100,
};

/// Which rules the script breaks, by a checker that takes all clocks for equal.
fn broken(script: &Script) -> Vec<Check> {
    let verdict = check_direct(&script.history, ClockBound::EXACT, None);
    verdict.violations.iter().map(|v| v.check).collect()
}

#[track_caller]
fn passes(script: &Script) {
    check_direct(&script.history, ClockBound::EXACT, None).assert_clean();
}

fn believed(script: &Script, clocks: ClockBound) -> Vec<(Moment, Moment)> {
    let grants = grants(&script.history, clocks);
    grants.iter().map(|g| (g.acked, g.until)).collect()
}

mod beliefs {
    use super::*;

    #[test]
    fn a_fast_clock_shortens_the_belief_exactly() {
        // 1,100 ms by a clock 10% fast are 1,000 true ones; one more may be lost to rounding.
        let script = Script::new().grant("a", (5, 7), 1, 1_100);
        assert_eq!(believed(&script, TEN_PERCENT), [(ms(7), ms(1_005))]);
        assert_eq!(believed(&script, ClockBound::EXACT), [(ms(7), ms(1_105))]);
        // Rounded down: 1 ms by that clock is 0.909090 true ones.
        assert_eq!(TEN_PERCENT.at_least_ns(2), 909_090);
        assert_eq!(TEN_PERCENT.at_least_ns(0), 0);
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
            let script =
                Script::new()
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
}

mod m {
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
        let script =
            Script::new()
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
}

mod f1 {
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
}

mod f2 {
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
}

mod q {
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
}

mod l {
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
}

mod x {
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
}

mod w1 {
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
}

mod w4 {
    use super::*;

    /// `left_ms` after one extension by 50 ms of a lease of 100 ms.
    fn extended(name: Option<&str>, left_ms: u64) -> Script {
        let lost = Script::new().grant("a", (0, 1), 1, 99).add(
            Ask::Extend { extend_by_ms: 50 },
            "a",
            (2, 3),
            Told::Unknown,
        );
        match name {
            Some(name) => {
                let lost = lost.named(name);
                lost.extend("a", (4, 5), 1, left_ms - 1).named(name)
            }
            None => lost.extend("a", (4, 5), 1, left_ms - 1),
        }
    }

    #[test]
    fn an_extension_that_came_twice_under_one_name_extends_once() {
        passes(&extended(Some("e"), 150));
        assert_eq!(broken(&extended(Some("e"), 151)), [Check::W4]);
    }

    #[test]
    fn two_extensions_extend_twice() {
        passes(&extended(None, 200));
        assert_eq!(broken(&extended(None, 201)), [Check::W4]);
    }

    #[test]
    fn a_look_shows_no_more_either() {
        let look = |left_ms| {
            let told = Told::Held {
                token: 1,
                expires_in_ms: left_ms,
                waiting: 0,
            };
            Script::new()
                .grant("a", (0, 1), 1, 99)
                .add(Ask::Look, "", (2, 3), told)
        };
        passes(&look(100));
        assert_eq!(broken(&look(101)), [Check::W4]);
    }
}
