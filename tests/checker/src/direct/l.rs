//! L: a look sees what is so, and no answer names a grant that is known to be over.

use std::collections::HashMap;

use super::account::{self, at};
use crate::grants::{Grant, told_of_hold};
use crate::history::{Ask, Moment, Record, Told};
use crate::verdict::{Check, Violation};

/// `grants` by key and by the moment they were read of, as [`crate::grants::grants`] gives them.
pub(super) fn check(grants: &[Grant<'_>], records: &[Record]) -> Vec<Violation> {
    let mut violations = looks_against_beliefs(grants, records);
    violations.extend(answers_against_newer_tokens(grants, records));
    violations.extend(answers_after_the_end(grants, records));
    violations
}

/// The token of an answer that says which grant is alive.
fn alive(told: &Told) -> Option<u64> {
    match told {
        Told::Held { token, .. } => Some(*token),
        told => told_of_hold(told).map(|(token, _)| token),
    }
}

/// A look wholly inside a belief finds that grant.
fn looks_against_beliefs(grants: &[Grant<'_>], records: &[Record]) -> Vec<Violation> {
    // Per key: when each was read of, and the one believed in the longest of those up to it.
    let mut longest: HashMap<&str, Vec<(Moment, &Grant<'_>)>> = HashMap::new();
    for grant in grants.iter().filter(|grant| grant.was_believed()) {
        let of_key = longest.entry(grant.key).or_default();
        let last = of_key.last().map(|(_, last)| *last);
        let best = last.filter(|last| last.until > grant.until);
        of_key.push((grant.acked, best.unwrap_or(grant)));
    }
    let mut violations = Vec::new();
    for record in records {
        let found = match &record.told {
            Told::Held { token, .. } => Some(*token),
            Told::Free => None,
            _ => continue,
        };
        let Some(of_key) = longest.get(record.key.as_str()) else {
            continue;
        };
        let before = of_key.partition_point(|(acked, _)| *acked < record.invoked);
        let Some((_, grant)) = before.checked_sub(1).map(|at| of_key[at]) else {
            continue;
        };
        if record.returned < grant.until && found != Some(grant.token) {
            let what = format!(
                "a look did not see the holder: {}; {}",
                account::record(record),
                account::grant(grant)
            );
            violations.push(Violation::new(Check::L, what));
        }
    }
    violations
}

/// Once a token was read of, no later request of that lock hears of a lower one.
fn answers_against_newer_tokens(grants: &[Grant<'_>], records: &[Record]) -> Vec<Violation> {
    let granted = grants.iter().map(|g| (g.key, g.acked, g.token));
    let looked = records.iter().filter_map(|record| match record.told {
        Told::Held { token, .. } => Some((record.key.as_str(), record.returned, token)),
        _ => None,
    });
    let mut read: Vec<_> = granted.chain(looked).collect();
    read.sort_unstable();
    let mut asked: Vec<_> = records
        .iter()
        .filter_map(|record| Some((record, alive(&record.told)?)))
        .collect();
    asked.sort_unstable_by_key(|(record, _)| (&record.key, record.invoked));

    let mut violations = Vec::new();
    let mut read = read.into_iter().peekable();
    let mut highest: Option<(&str, Moment, u64)> = None;
    for (record, token) in asked {
        let key = record.key.as_str();
        let now = (key, record.invoked);
        while let Some(earlier) = read.next_if(|(key, at, _)| (*key, *at) < now) {
            let last = highest.filter(|last| last.0 == earlier.0);
            if last.is_none_or(|last| last.2 < earlier.2) {
                highest = Some(earlier);
            }
        }
        let newer = highest.filter(|newer| newer.0 == key && newer.2 > token);
        if let Some((_, moment, newer)) = newer {
            let what = format!(
                "an answer from the past: token {newer} was read of {}; {}",
                at(moment),
                account::record(record)
            );
            violations.push(Violation::new(Check::L, what));
        }
    }
    violations
}

/// Once a holder was told that its grant is over, no later request hears that it lives.
fn answers_after_the_end(grants: &[Grant<'_>], records: &[Record]) -> Vec<Violation> {
    let ends = Ends::of(grants, records);
    let mut violations = Vec::new();
    for record in records {
        let Some(token) = alive(&record.told) else {
            continue;
        };
        let end = ends.0.get(&(record.key.as_str(), token));
        if let Some(end) = end.filter(|end| end.returned < record.invoked) {
            let what = format!(
                "a grant lives after its end: {}; {}",
                account::record(end),
                account::record(record)
            );
            violations.push(Violation::new(Check::L, what));
        }
    }
    violations
}

/// By key and token: the first answer which says that the grant is over.
struct Ends<'a>(HashMap<(&'a str, u64), &'a Record>);

impl<'a> Ends<'a> {
    fn of(grants: &[Grant<'a>], records: &'a [Record]) -> Self {
        // A repetition under one Idempotency-Key is answered as the first was: it tells of a moment
        // after the first of them was sent, and of no later one.
        let mut first: HashMap<Named<'_>, Moment> = HashMap::new();
        for record in records {
            if let Some(named) = named(record) {
                let moment = first.entry(named).or_insert(record.invoked);
                *moment = record.invoked.min(*moment);
            }
        }
        let mut over: HashMap<(&str, &str), Vec<(Moment, &Record)>> = HashMap::new();
        for record in records.iter().filter(|record| says_over(record)) {
            let since = named(record).map_or(record.invoked, |named| first[&named]);
            let of_uuid = over.entry((&record.key, &record.uuid)).or_default();
            of_uuid.push((since, record));
        }
        for of_uuid in over.values_mut() {
            of_uuid.sort_unstable_by_key(|(since, _)| *since);
            // From the end: the one that was read first of those sent at or after each.
            for at in (1..of_uuid.len()).rev() {
                if of_uuid[at].1.returned < of_uuid[at - 1].1.returned {
                    of_uuid[at - 1].1 = of_uuid[at].1;
                }
            }
        }
        let mut ends = HashMap::new();
        for grant in grants {
            let Some(of_uuid) = over.get(&(grant.key, grant.uuid)) else {
                continue;
            };
            let after = of_uuid.partition_point(|(since, _)| *since <= grant.acked);
            if let Some((_, record)) = of_uuid.get(after) {
                ends.insert((grant.key, grant.token), *record);
            }
        }
        Self(ends)
    }
}

/// The lock, the uuid, the endpoint and the Idempotency-Key.
type Named<'a> = (&'a str, &'a str, bool, &'a str);

fn named(record: &Record) -> Option<Named<'_>> {
    let release = match record.ask {
        Ask::Release => true,
        Ask::Extend { .. } => false,
        Ask::Acquire { .. } | Ask::Look => return None,
    };
    let name = record.idempotency.as_deref()?;
    Some((&record.key, &record.uuid, release, name))
}

/// Whether an answer says that its caller holds nothing any more.
fn says_over(record: &Record) -> bool {
    let gone = |code: &str| code == "lock_not_found" || code == "not_owner";
    match (&record.ask, &record.told) {
        (Ask::Release, Told::Released) => true,
        (Ask::Release | Ask::Extend { .. }, Told::Refused { code, .. }) => gone(code),
        _ => false,
    }
}
