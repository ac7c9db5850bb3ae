//! What is told of a run that is not clean.

use evermind_checker::{Check, Verdict, Violation};
use evermind_sim::verdict::Outcome;

fn broken(why: &str) -> Outcome {
    Outcome {
        broken: Some(why.to_owned()),
        ..Outcome::default()
    }
}

fn found(checks: &[Check]) -> Outcome {
    let violations = checks
        .iter()
        .map(|check| Violation::new(*check, "two at once"));
    Outcome {
        verdict: Verdict {
            violations: violations.collect(),
            ..Verdict::default()
        },
        ..Outcome::default()
    }
}

#[test]
fn a_clean_run_is_caught_by_nothing() {
    let outcome = Outcome::default();
    assert!(outcome.is_clean());
    assert!(outcome.caught_by().is_empty());
}

#[test]
fn each_broken_rule_is_named_once() {
    let outcome = found(&[Check::W5, Check::M, Check::W5, Check::M, Check::F2]);
    assert!(!outcome.is_clean());
    assert_eq!(outcome.caught_by(), ["M", "F2", "W5"]);
}

#[test]
fn what_is_undecided_is_not_clean() {
    let mut outcome = Outcome::default();
    outcome
        .verdict
        .undecided
        .push("too many at once".to_owned());
    assert!(!outcome.is_clean());
    assert_eq!(outcome.caught_by(), ["undecided"]);
}

#[test]
fn a_run_that_broke_off_is_told_by_what_broke() {
    let outcome = broken("one leader a term: nodes 1 and 2: both");
    assert!(!outcome.is_clean());
    assert_eq!(outcome.caught_by(), ["one leader a term"]);
    assert_eq!(broken("no more words").caught_by(), ["no more words"]);
}

#[test]
fn everything_that_found_something_is_told() {
    let mut outcome = found(&[Check::L]);
    outcome
        .verdict
        .undecided
        .push("too many at once".to_owned());
    outcome.broken = Some("terms are bounded: 900".to_owned());
    assert_eq!(outcome.caught_by(), ["L", "undecided", "terms are bounded"]);
}
