//! The specification as a program and the server's table say the same of every history.
//!
//! More cases: `PROPTEST_CASES=20000 cargo test -p evermind-checker --test spec`
#![allow(clippy::unwrap_used)]

mod plans;
mod writer;

use std::collections::BTreeMap;

use evermind_checker::spec::Model;
use evermind_lock::outcome::Event;
use evermind_lock::table::{LockTable, Pieces};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use plans::{How, Planned, planned};
use writer::{Writer, beginning};

/// What the specification said, in a word each.
type Reached = BTreeMap<String, u64>;

fn reach(reached: &mut Reached, said: &impl std::fmt::Debug) {
    let text = format!("{said:?}");
    let words = text.split(|c: char| !c.is_alphanumeric());
    // Names alone: every number has its own text.
    let names = words.filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase()));
    let name = names.take(3).collect::<Vec<_>>().join(" ");
    *reached.entry(name).or_default() += 1;
}

fn compare(plans: &[Planned], pieces: Pieces, reached: &mut Reached) -> Result<(), TestCaseError> {
    let mut writer = Writer::new();
    let mut table = LockTable::new().in_pieces(pieces);
    let mut model = Model::new().in_pieces(pieces.of_expire, pieces.of_command);
    let beginning = beginning().into_iter().map(|what| Planned {
        after_ms: 0,
        wall_after_ms: 0,
        server: 0,
        how: How::Nameless,
        what,
    });
    let plans: Vec<_> = beginning.chain(plans.iter().cloned()).collect();
    for plan in &plans {
        let (at, command) = writer.entry(plan);
        let mut events = Vec::new();
        let shown = format!("{at:?} {command:?}");
        let decision = table.apply(at, command.clone(), &mut events);
        let step = model.apply(at, Some(command));
        reach(reached, &decision.outcome);
        for event in &step.events {
            if let Event::WaitEnded { outcome, .. } = event {
                reach(reached, &("WaitEnded", outcome));
            } else {
                reach(reached, event);
            }
        }
        if step.repeated {
            reach(reached, &"Repeated");
        }
        prop_assert_eq!(step.decision, Some(decision), "decision of {}", &shown);
        prop_assert_eq!(step.events, events, "events of {}", &shown);
        prop_assert_eq!(model.now_ms(), table.now_ms());
        prop_assert_eq!(model.is_behind(), is_behind(&table));
        if model.is_behind() {
            reach(reached, &"Behind");
        }
    }
    let held = model.held_locks();
    if !model.is_behind() {
        prop_assert_eq!(held.len(), table.live_leases());
    }
    for (resource, ours) in &held {
        let theirs = table.lock(resource).unwrap();
        prop_assert_eq!(ours.token, theirs.fencing_token);
        prop_assert_eq!(ours.expires_ms - model.now_ms(), theirs.expires_in_ms);
        prop_assert_eq!(ours.waiting, theirs.waiting);
        prop_assert_eq!(ours.fifo, theirs.fifo);
    }
    prop_assert_eq!(model.waits(), table.waiting());
    prop_assert_eq!(model.names(), table.idempotency_keys());
    prop_assert_eq!(model.tokens() + 1, table.next_fencing_token());
    for licence in table.licences(None, usize::MAX, 0) {
        let past: u64 = licence.usage.past.iter().map(|past| past.used).sum();
        let ours = model.used_ever()[&licence.id];
        prop_assert_eq!(ours, licence.usage.used + past, "{:?}", licence.id);
    }
    Ok(())
}

/// The next entry has something to end.
fn is_behind(table: &LockTable) -> bool {
    table.next_deadline_ms() == Some(table.now_ms())
}

/// So small that these histories are often behind.
fn small_pieces() -> impl Strategy<Value = Pieces> {
    (1..6_u32, 1..3_u32).prop_map(|(of_expire, of_command)| Pieces {
        of_expire,
        of_command,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_does_what_the_specification_says(plans in vec(planned(), 1..200)) {
        compare(&plans, Pieces::default(), &mut Reached::new())?;
    }

    #[test]
    fn the_table_does_so_in_pieces_too(
        plans in vec(planned(), 1..200),
        pieces in small_pieces(),
    ) {
        compare(&plans, pieces, &mut Reached::new())?;
    }
}

#[test]
fn the_histories_reach_every_outcome() {
    let mut runner = TestRunner::deterministic();
    let mut reached = Reached::new();
    for _ in 0..300 {
        let plans = vec(planned(), 200).new_tree(&mut runner).unwrap().current();
        let pieces = small_pieces().new_tree(&mut runner).unwrap().current();
        compare(&plans, Pieces::default(), &mut reached).unwrap();
        compare(&plans, pieces, &mut reached).unwrap();
    }
    for wanted in [
        "Granted Granted",
        "Queued",
        "Extended",
        "Released",
        "Done",
        "Stale",
        "LicenceCreated LicenceId",
        "ApiKeyCreated KeyId",
        "Refused LockHeld NoWait",
        "Refused LockHeld WindowPassed",
        "Refused NotOwner",
        "Refused LockNotFound",
        "Refused ExtendPastLimit",
        "Refused Unauthorized",
        "Refused IdempotencyMismatch",
        "Refused GrantEnded",
        "Refused LicenceInactive",
        "Refused LicenceUnknown",
        "Refused LicenceNotFound",
        "Refused ApiKeyNotFound",
        "Refused QuotaExceeded",
        "WaitEnded Granted Granted",
        "WaitEnded Refused LockHeld",
        "WaitEnded Refused CutOff",
        "Detached OpId",
        "Repeated",
        "Behind",
    ] {
        let found = reached.keys().any(|name| name.starts_with(wanted));
        assert!(found, "no history reaches '{wanted}': {reached:#?}");
    }
}
