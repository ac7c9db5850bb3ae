//! The witness passes what an honest server told, and names what a dishonest one did.
#![allow(clippy::unwrap_used)]

mod story;

use std::sync::Arc;

use evermind_checker::committed::Committed;
use evermind_checker::history::{Ask, Moment, Told};
use evermind_checker::witness::{Ends, Entries, LiveLock, check_witness};
use evermind_checker::{Check, ClockBound, Spell};
use evermind_lock::command::Action;
use evermind_lock::names::Holder;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use story::{EXTEND, Story, acquire};

/// A holds and extends, B and C stand in line, A gives back, B's lease runs out.
fn a_line() -> Story {
    let mut story = Story::new();
    story.ask("k", "a", acquire(5_000));
    story.ask("k", "a", EXTEND);
    story.ask("k", "b", acquire(300));
    story.ask("k", "c", acquire(5_000));
    story.wait(100);
    story.ask("k", "a", Ask::Release);
    story.wait(400);
    story.tick();
    story.ask("k", "c", Ask::Release);
    story.ask("k", "c", Ask::Release);
    story.end();
    story
}

#[test]
fn what_an_honest_server_told_passes() {
    let verdict = a_line().check();
    verdict.assert_clean();
    assert_eq!((verdict.operations, verdict.ambiguous), (7, 0));
}

#[test]
fn the_first_entry_of_an_acquisition_is_found() {
    let mut story = a_line();
    let entries = Entries::of(&story.committed());
    let of_b = entries.entry_index(story.record("b"));
    let of_c = entries.entry_index(story.record("c"));
    assert_eq!((of_b, of_c), (Some(4), Some(5)));
    story.record("b").uuid = "stranger".into();
    assert_eq!(entries.entry_index(story.record("stranger")), None);
}

#[test]
fn a_wait_that_is_repeated_a_hang_up_and_a_named_replay_pass() {
    let mut story = Story::new();
    story.ask_named("k", "a", acquire(2_000), Some("once"));
    story.ask_named("k", "a", acquire(2_000), Some("once"));
    let first = story.ask("k", "b", acquire(2_000));
    story.hang_up(first, "k", "b");
    story.wait(50);
    story.ask("k", "b", acquire(2_000));
    story.ask("k", "a", Ask::Release);
    story.ask_named("k", "a", acquire(2_000), Some("once"));
    story.end();
    let verdict = story.check();
    verdict.assert_clean();
    assert_eq!((verdict.ambiguous, verdict.resolved), (1, 1));
}

#[test]
fn w2_a_grant_is_given_back_that_its_caller_read_of() {
    let mut story = Story::new();
    let granted = story.ask("k", "a", acquire(2_000));
    let read = story.record("a").clone();
    story.hang_up(granted, "k", "a");
    *story.record("a") = read;
    story.end();
    story.breaks(&[Check::W2]);
}

#[test]
fn w0_an_answer_that_no_entry_gave() {
    let mut story = a_line();
    story.record("b").uuid = "stranger".into();
    // And the entry of the one who was taken for it answered nobody.
    story.breaks(&[Check::W0, Check::W4]);
}

#[test]
fn w0_an_answer_of_an_entry_that_is_gone() {
    let mut story = a_line();
    let mut records = story.history.records.iter_mut();
    records
        .find(|r| r.told == Told::Released)
        .unwrap()
        .log_index = Some(1_000);
    story.breaks(&[Check::W0]);
}

#[test]
fn w0_a_grant_that_names_no_entry() {
    let mut story = a_line();
    story.record("c").log_index = None;
    story.breaks(&[Check::W0]);
}

#[test]
fn w1_an_operation_before_one_that_ended_when_it_began() {
    let mut story = Story::new();
    story.ask("k", "a", acquire(5_000));
    story.wait(10);
    story.ask("l", "b", acquire(5_000));
    let late = story.record("b").returned;
    story.record("a").invoked = Moment(late.0 + 1);
    story.record("a").returned = Moment(late.0 + 2);
    let checks = [Check::W1];
    let verdict = story.check();
    assert!(verdict.count(checks[0]) > 0, "{verdict}");
}

#[test]
fn w2_a_clock_that_outruns_real_time() {
    let mut story = Story::new();
    story.ask("k", "a", acquire(500));
    let jump = story.next();
    story.ask("k", "a", EXTEND);
    let (invoked, returned) = (story.record("a").invoked.0, story.record("a").returned.0);
    assert!(returned - invoked < 10_000_000);
    story.command(jump).stamp.cluster_ms += 10;
    // What was left of the lease is told as of then.
    for record in &mut story.history.records {
        if let Told::Extended { expires_in_ms, .. } = &mut record.told {
            *expires_in_ms -= 10;
        }
    }
    let verdict = check_witness(
        &story.history,
        &story.committed(),
        ClockBound::EXACT,
        &Ends::default(),
    );
    assert_eq!(
        verdict.count(Check::W2),
        verdict.violations.len(),
        "{verdict}"
    );
    assert_eq!(verdict.count(Check::W2), 1, "{verdict}");
    // A clock that may be that fast is none that outruns.
    let (from, until) = (story.record("a").invoked.0, u64::MAX);
    let judge = |clocks: ClockBound<'_>| {
        let ends = Ends::default();
        check_witness(&story.history, &story.committed(), clocks, &ends)
    };
    judge(ClockBound {
        rate_per_mille: 10_000,
        ..ClockBound::EXACT
    })
    .assert_clean();
    // Nor one that was as fast just then; one that was at another time is no excuse.
    let spell = |from: u64, until: u64| {
        let spells = [Spell {
            from: Moment(from),
            until: Moment(until),
            rate_per_mille: 10_000,
        }];
        judge(ClockBound {
            rate_per_mille: 0,
            spells: &spells,
        })
    };
    spell(from, until).assert_clean();
    for verdict in [spell(0, from), spell(from + 1_000_000_000, until)] {
        assert_eq!(verdict.count(Check::W2), 1, "{verdict}");
    }
}

#[test]
fn w2_a_holder_that_is_told_its_lease_is_over() {
    let mut story = a_line();
    let extend = |told: &Told| matches!(told, Told::Extended { .. });
    let mut records = story.history.records.iter_mut();
    records.find(|r| extend(&r.told)).unwrap().told = Told::Refused {
        status: 404,
        code: "lock_not_found".into(),
        attempts: 0,
    };
    story.breaks(&[Check::W2]);
}

#[test]
fn w2_a_lock_that_is_granted_while_a_lease_goes_on() {
    let mut story = a_line();
    // B's grant came with A's release: three entries earlier A held it still.
    story.record("b").log_index = Some(4);
    let verdict = story.check();
    assert!(verdict.count(Check::W2) > 0, "{verdict}");
}

#[test]
fn w3_another_token_lease_wait_or_cost() {
    let change = |change: fn(&mut u64, &mut u64, &mut u64, &mut u32)| {
        let mut story = a_line();
        match &mut story.record("b").told {
            Told::Granted {
                token,
                expires_in_ms,
                waited_ms,
                attempts,
            } => change(token, expires_in_ms, waited_ms, attempts),
            other => panic!("b was told {other:?}"),
        }
        story.breaks(&[Check::W3]);
    };
    change(|token, _, _, _| *token += 1);
    change(|_, expires, _, _| *expires -= 1);
    change(|_, _, waited, _| *waited += 1);
    change(|_, _, _, attempts| *attempts += 1);
}

#[test]
fn w3_a_refusal_of_another_kind() {
    let mut story = a_line();
    let mut records = story.history.records.iter_mut();
    let refused = records.find(|r| matches!(r.told, Told::Refused { .. }));
    let told = &mut refused.unwrap().told;
    assert_eq!(
        *told,
        Told::Refused {
            status: 404,
            code: "lock_not_found".into(),
            attempts: 0
        }
    );
    *told = Told::Released;
    story.breaks(&[Check::W3]);
}

#[test]
fn w4_a_repeated_extension_that_extends_again() {
    let mut story = Story::new();
    story.ask("k", "a", acquire(1_000));
    story.ask_named("k", "a", EXTEND, Some("once"));
    story.ask_named("k", "a", EXTEND, Some("once"));
    story.check().assert_clean();
    match &mut story.history.records[2].told {
        Told::Extended { expires_in_ms, .. } => *expires_in_ms += 500,
        other => panic!("{other:?}"),
    }
    story.breaks(&[Check::W4]);
}

#[test]
fn w4_two_answers_of_one_operation() {
    let mut story = a_line();
    let again = story.record("b").clone();
    story.history.records.push(again);
    story.breaks(&[Check::W4]);
}

#[test]
fn w4_an_effect_that_nobody_asked_for_a_second_time() {
    let mut story = a_line();
    story.ask("k", "d", acquire(1_000));
    story.history.records.pop();
    // Told at another node that nothing was done.
    let mut record = story.record("a").clone();
    record.uuid = "d".into();
    record.ask = acquire(1_000);
    record.log_index = None;
    record.told = Told::Refused {
        status: 503,
        code: "no_leader".into(),
        attempts: 0,
    };
    story.history.records.push(record);
    story.breaks(&[Check::W4]);
}

#[test]
fn w4_an_operation_that_is_two_things() {
    let mut story = a_line();
    let next = story.next();
    story.ask("l", "z", acquire(1_000));
    let again = story.command(next).command.clone();
    story.enter(again.operation.map(|o| o.id), again.action.clone());
    story.check().assert_clean();
    match &mut Arc::make_mut(&mut story.command(next + 1).command).action {
        Action::Acquire(acquire) => acquire.holder = Holder::new("y").unwrap(),
        other => panic!("{other:?}"),
    }
    story.breaks(&[Check::W4]);
}

#[test]
fn w4_what_was_charged_twice() {
    let story = a_line();
    let mut ends = story.ends();
    for used in ends.used.get_mut(&2).unwrap().values_mut() {
        *used += 1;
    }
    let verdict = check_witness(&story.history, &story.committed(), ClockBound::EXACT, &ends);
    assert_eq!(verdict.count(Check::W4), 1, "{verdict}");
    assert_eq!(verdict.violations.len(), 1, "{verdict}");
}

#[test]
fn w5_a_node_with_another_table() {
    let story = a_line();
    let mut ends = story.ends();
    ends.tables.get_mut(&3).unwrap().digest ^= 1;
    let verdict = check_witness(&story.history, &story.committed(), ClockBound::EXACT, &ends);
    assert_eq!(verdict.count(Check::W5), 1, "{verdict}");
}

/// A free lock, one with a line, one without, and a look at each.
fn looked_at() -> Story {
    let mut story = Story::new();
    story.look("k");
    story.ask("k", "a", acquire(5_000));
    story.look("k");
    story.ask("k", "b", acquire(5_000));
    story.wait(100);
    story.ask("l", "c", acquire(5_000));
    story.look("k");
    story.ask("k", "a", Ask::Release);
    story.ask("k", "b", Ask::Release);
    story.look("k");
    story.end();
    story
}

fn looks(story: &mut Story) -> Vec<&mut evermind_checker::history::Record> {
    let records = story.history.records.iter_mut();
    records.filter(|record| record.ask == Ask::Look).collect()
}

#[test]
fn l_looks_that_are_so_pass_whatever_of_them_is_not_sure() {
    let mut story = looked_at();
    story.check().assert_clean();
    // They took all the time, and may have seen any state.
    for look in looks(&mut story) {
        (look.invoked, look.returned) = (Moment(0), Moment(u64::MAX));
    }
    story.check().assert_clean();
}

#[test]
fn l_a_look_that_differs_in_one_thing_from_what_was_so() {
    let change = |change: fn(&mut u64, &mut u64, &mut u64, &mut bool)| {
        let mut story = looked_at();
        match &mut looks(&mut story)[2].told {
            Told::Held {
                token,
                expires_in_ms,
                waiting,
                fifo,
            } => change(token, expires_in_ms, waiting, fifo),
            other => panic!("it was {other:?}"),
        }
        story.breaks(&[Check::L]);
    };
    change(|token, _, _, _| *token += 1);
    change(|_, expires, _, _| *expires += 1);
    change(|_, expires, _, _| *expires -= 1);
    change(|_, _, waiting, _| *waiting += 1);
    change(|_, _, waiting, _| *waiting -= 1);
    change(|_, _, _, fifo| *fifo = false);
}

/// The right token, and all the rest of another time.
#[test]
fn l_a_look_that_saw_the_past_or_the_future() {
    let swap = |a: usize, b: usize| {
        let mut story = looked_at();
        let told = looks(&mut story)[b].told.clone();
        looks(&mut story)[a].told = told;
        let verdict = story.check();
        assert_eq!(verdict.count(Check::L), 1, "{verdict}");
        assert_eq!(verdict.violations.len(), 1, "{verdict}");
    };
    swap(1, 2);
    swap(2, 1);
    swap(3, 2);
    swap(1, 0);
}

/// Each may have seen either state; the second did not see the older one after the first saw the
/// newer.
#[test]
fn l_two_looks_that_saw_things_in_the_wrong_order() {
    let mut story = Story::new();
    story.ask("k", "a", acquire(5_000));
    story.look("k");
    story.ask("k", "b", acquire(5_000));
    story.look("k");
    story.ask("k", "a", Ask::Release);
    story.ask("k", "b", Ask::Release);
    story.end();
    let release = story.record("b").returned;
    let mut seen = looks(&mut story);
    (seen[0].invoked, seen[0].returned) = (Moment(0), Moment(1));
    (seen[1].invoked, seen[1].returned) = (Moment(2), release);
    for record in &mut story.history.records {
        if record.ask != Ask::Look {
            record.invoked = Moment(0);
            record.returned = release;
        }
    }
    story.check().assert_clean();
    let mut seen = looks(&mut story);
    let newer = seen[1].told.clone();
    let older = std::mem::replace(&mut seen[0].told, newer);
    seen[1].told = older;
    let verdict = story.check();
    assert_eq!(verdict.count(Check::L), 1, "{verdict}");
}

/// A story with the views that its nodes gave on the way: of one held lock with a line, and of none.
fn watched() -> (Story, Ends) {
    let mut story = Story::new();
    let mut live = vec![story.live(1)];
    story.ask("k", "a", acquire(5_000));
    story.ask("k", "b", acquire(5_000));
    live.push(story.live(2));
    story.wait(100);
    story.ask("k", "a", Ask::Release);
    live.push(story.live(3));
    story.ask("k", "b", Ask::Release);
    story.end();
    let mut ends = story.ends();
    ends.live.append(&mut live);
    (story, ends)
}

fn judged(story: &Story, ends: &Ends) -> evermind_checker::Verdict {
    check_witness(&story.history, &story.committed(), ClockBound::EXACT, ends)
}

#[test]
fn w5_what_running_nodes_showed_passes() {
    let (story, mut ends) = watched();
    let verdict = judged(&story, &ends);
    verdict.assert_clean();
    assert_eq!(verdict.live_views, 6);
    // Not sure of when: it is what was so at one of these entries.
    let last = story.next() - 1;
    for view in &mut ends.live {
        (view.from, view.until) = (0, last);
    }
    judged(&story, &ends).assert_clean();
}

/// A live table that has gone wrong, over a disk on which all is well.
#[test]
fn w5_a_running_node_that_serves_another_table_than_it_has_stored() {
    let wrong = |change: fn(&mut LiveLock)| {
        let (story, mut ends) = watched();
        let views = ends.live.iter_mut();
        let view = views.rev().find(|view| view.held.len() == 1).unwrap();
        change(view.held.get_mut("k").unwrap());
        let verdict = judged(&story, &ends);
        assert_eq!(verdict.count(Check::W5), 1, "{verdict}");
        assert_eq!(verdict.violations.len(), 1, "{verdict}");
    };
    wrong(|lock| lock.token += 1);
    wrong(|lock| lock.expires_in_ms += 1);
    wrong(|lock| lock.waiting += 1);
    wrong(|lock| lock.fifo = !lock.fifo);
}

#[test]
fn w5_of_a_page_what_is_on_it_counts() {
    let mut story = Story::new();
    story.ask("k", "a", acquire(5_000));
    story.ask("l", "b", acquire(5_000));
    story.end();
    let mut ends = story.ends();
    ends.live[0].held.remove("l");
    assert_eq!(judged(&story, &ends).count(Check::W5), 1);
    ends.live[0].through = Some("k".to_owned());
    judged(&story, &ends).assert_clean();
    ends.live[0].held.remove("k");
    assert_eq!(judged(&story, &ends).count(Check::W5), 1);
}

#[test]
fn w5_a_running_node_with_a_lock_too_many_too_few_or_of_an_entry_that_nobody_has() {
    let wrong = |change: fn(&mut Ends)| {
        let (story, mut ends) = watched();
        change(&mut ends);
        let verdict = judged(&story, &ends);
        assert_eq!(verdict.count(Check::W5), 1, "{verdict}");
    };
    wrong(|ends| ends.live[4].held.clear());
    wrong(|ends| ends.live[0].held = ends.live[4].held.clone());
    wrong(|ends| (ends.live[1].from, ends.live[1].until) = (1_000, 1_000));
    wrong(|ends| ends.live[1].until = 1_000 + std::mem::replace(&mut ends.live[1].from, 1_000));
    wrong(|ends| {
        ends.live[2]
            .used
            .as_mut()
            .unwrap()
            .values_mut()
            .for_each(|u| *u += 1);
    });
}

#[test]
fn q_a_line_that_is_not_served_in_order() {
    let mut story = a_line();
    let (b, c) = (story.record("b").clone(), story.record("c").clone());
    for (uuid, other) in [("b", c), ("c", b)] {
        let record = story.record(uuid);
        record.told = other.told;
        record.log_index = other.log_index;
        record.returned = other.returned;
    }
    let verdict = story.check();
    assert_eq!(verdict.count(Check::Q), 1, "{verdict}");
}

/// Of those who were told nothing, the log has one that was granted, one that was refused, one that
/// never came to its turn and one repetition; and one is not in it.
#[test]
fn of_what_nobody_was_told_the_log_says_whether_it_took_effect() {
    let mut story = Story::new();
    let once = Ask::Acquire {
        lease_ms: 5_000,
        retry_attempts: 0,
        retry_delay_ms: 0,
        fifo: false,
    };
    story.ask_named("k", "a", acquire(5_000), Some("once"));
    story.ask_named("k", "a", acquire(5_000), Some("once"));
    story.ask("k", "b", once);
    let waits = story.ask("k", "c", acquire(5_000));
    story.hang_up(waits, "k", "c");
    story.ask("k", "a", EXTEND);
    story.ask("k", "a", Ask::Release);
    let mut gone = story.record("b").clone();
    gone.uuid = "nobody".into();
    story.history.records.push(gone);
    story.end();
    for record in &mut story.history.records {
        record.told = Told::Unknown;
        record.log_index = None;
    }
    let verdict = story.check();
    verdict.assert_clean();
    assert_eq!((verdict.ambiguous, verdict.resolved), (7, 7), "{verdict}");
    // The first acquire, the extension and the release.
    let effects = (verdict.took_effect, verdict.without_effect);
    assert_eq!(effects, (3, 4), "{verdict}");
}

#[test]
fn what_the_log_cannot_tell_is_undecided() {
    let mut story = Story::new();
    story.ask("k", "a", acquire(1_000));
    story.record("a").told = Told::Unknown;
    story.record("a").log_index = None;
    let verdict = story.check();
    verdict.assert_clean();
    assert_eq!((verdict.ambiguous, verdict.resolved), (1, 1));
    // The same, of a log that nobody has.
    let verdict = check_witness(
        &story.history,
        &Committed::default(),
        ClockBound::EXACT,
        &Ends::default(),
    );
    assert!(
        !verdict.undecided.is_empty() && verdict.resolved == 0,
        "{verdict}"
    );
}

/// What happens next in a random story.
#[derive(Debug, Clone)]
enum Next {
    Acquire(usize, usize, u64, Option<usize>),
    Extend(usize, usize, Option<usize>),
    Release(usize, usize),
    Wait(u64),
    Tick,
    HangUp(usize),
    Look(usize),
}

fn next() -> impl Strategy<Value = Next> {
    let named = || proptest::option::weighted(0.3, 0..3_usize);
    prop_oneof![
        6 => (0..3_usize, 0..6_usize, 1..1_500_u64, named())
            .prop_map(|(key, uuid, lease_ms, name)| Next::Acquire(key, uuid, lease_ms, name)),
        1 => (0..3_usize, 0..6_usize, named())
            .prop_map(|(key, uuid, name)| Next::Extend(key, uuid, name)),
        4 => (0..3_usize, 0..6_usize).prop_map(|(key, uuid)| Next::Release(key, uuid)),
        4 => (0..400_u64).prop_map(Next::Wait),
        1 => (3_000..5_000_u64).prop_map(Next::Wait),
        2 => Just(Next::Tick),
        2 => (0..8_usize).prop_map(Next::HangUp),
        3 => (0..3_usize).prop_map(Next::Look),
    ]
}

fn tell(plan: &[Next]) -> Story {
    let mut story = Story::new();
    let mut asked = Vec::new();
    for next in plan {
        let key = |key: &usize| format!("k{key}");
        let uuid = |uuid: &usize| format!("u{uuid}");
        let name = |name: &Option<usize>| name.map(|name| format!("n{name}"));
        match next {
            Next::Acquire(k, u, lease_ms, n) => {
                let (k, u, n) = (key(k), uuid(u), name(n));
                let id = story.ask_named(&k, &u, acquire(*lease_ms), n.as_deref());
                asked.push((id, k, u));
            }
            Next::Extend(k, u, n) => {
                story.ask_named(&key(k), &uuid(u), EXTEND, name(n).as_deref());
            }
            Next::Release(k, u) => {
                story.ask(&key(k), &uuid(u), Ask::Release);
            }
            Next::Wait(ms) => story.wait(*ms),
            Next::Tick => story.tick(),
            Next::Look(k) => story.look(&key(k)),
            Next::HangUp(back) => {
                if let Some((id, k, u)) = asked.iter().rev().nth(*back) {
                    story.hang_up(*id, k, u);
                }
            }
        }
    }
    story.end();
    story
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// More cases: `PROPTEST_CASES=10000 cargo test -p evermind-checker --test witness`
    #[test]
    fn an_honest_server_passes_whatever_is_asked_and_whoever_is_not_told(
        plan in vec(next(), 1..80),
        untold in vec(any::<bool>(), 80),
    ) {
        let mut story = tell(&plan);
        for (record, untold) in story.history.records.iter_mut().zip(untold) {
            if untold {
                record.told = Told::Unknown;
                record.log_index = None;
            }
        }
        let verdict = story.check();
        prop_assert!(verdict.is_clean(), "{}", verdict);
        prop_assert_eq!(verdict.ambiguous, verdict.resolved);
    }

    /// A number that differs by one in a single answer is never let through.
    #[test]
    fn one_changed_number_is_caught(plan in vec(next(), 5..60), which in any::<Index>()) {
        let mut story = tell(&plan);
        let changed = |told: &Told| matches!(told, Told::Granted { .. } | Told::Extended { .. });
        let answers: Vec<_> = story
            .history
            .records
            .iter_mut()
            .filter(|record| changed(&record.told))
            .collect();
        prop_assume!(!answers.is_empty());
        let at = which.index(answers.len());
        if let Some(record) = answers.into_iter().nth(at)
            && let Told::Granted { token, .. } | Told::Extended { token, .. } = &mut record.told
        {
            *token += 1;
        }
        prop_assert!(!story.check().violations.is_empty());
    }
}

/// The node of the first request died, and a second came under the same uuid: both are told the
/// same in one entry, and only the second is there to hear it.
#[test]
fn of_requests_that_cannot_be_told_apart_the_last_is_the_one_that_was_answered() {
    let mut story = Story::new();
    story.ask("k", "a", acquire(5_000));
    story.ask("k", "b", acquire(2_000));
    story.wait(100);
    story.ask("l", "c", acquire(2_000));
    story.wait(100);
    story.ask("k", "b", acquire(2_000));
    story.wait(1_500);
    story.tick();
    story.end();
    let first = story.record("b");
    assert!(matches!(first.told, Told::Refused { status: 423, .. }));
    first.told = Told::Unknown;
    first.log_index = None;
    let verdict = story.check();
    verdict.assert_clean();
    assert_eq!(verdict.resolved, 1);
}
