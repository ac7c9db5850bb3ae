//! Q: the line of a lock is served in its order.

use std::collections::HashMap;

use super::account;
use crate::clocks::ClockBound;
use crate::history::{Ask, Moment, Record, Told};
use crate::verdict::{Check, Violation};

/// Against the first entries of the acquires. Those are compared that were asked for in one request
/// each, since one that came again may have been passed over meanwhile.
///
/// `entry_index` gives the first entry of an acquire's wait, or nothing where it is not known or
/// where the wait was detached for a while (its node was taken for dead): that one may have been
/// passed over too.
pub(super) fn by_entries(records: &[Record], entry_index: super::EntryIndex<'_>) -> Vec<Violation> {
    let mut line: Vec<(&str, u64, &Record)> = once(records)
        .filter_map(|record| Some((record.key.as_str(), entry_index(record)?, record)))
        .collect();
    line.sort_unstable_by_key(|(key, entry, _)| (*key, *entry));
    let mut violations = Vec::new();
    let mut before = Before::default();
    let mut of_key = "";
    for (key, entry, record) in line {
        if key != of_key {
            (of_key, before) = (key, Before::default());
        }
        if let Some(passed) = before.passed_over_by(record) {
            let (passed, record) = (account::record(passed), account::record(record));
            let what = format!("overtaken by a later one, of entry {entry}: {passed}; {record}");
            violations.push(Violation::new(Check::Q, what));
        }
        before.add(record);
    }
    violations
}

/// Of those ahead in one line: who was served last.
#[derive(Default)]
struct Before<'a> {
    /// The granted one with the highest token.
    granted: Option<(u64, &'a Record)>,
    /// The one that left without the lock the latest, by the entry that ended its wait.
    left: Option<(u64, &'a Record)>,
}

impl<'a> Before<'a> {
    fn passed_over_by(&self, record: &Record) -> Option<&'a Record> {
        let Told::Granted { token, .. } = record.told else {
            return None;
        };
        let granted = self.granted.filter(|(other, _)| *other > token);
        let still_there = |(left, _): &(u64, _)| record.log_index.is_some_and(|at| at < *left);
        let left = self.left.filter(still_there);
        granted.or(left).map(|(_, other)| other)
    }

    fn add(&mut self, record: &'a Record) {
        let (last, at) = match &record.told {
            Told::Granted { token, .. } => (&mut self.granted, Some(*token)),
            Told::Refused { code, .. } if code == "lock_held" => (&mut self.left, record.log_index),
            _ => return,
        };
        if let Some(at) = at.filter(|at| last.is_none_or(|(most, _)| most < *at)) {
            *last = Some((at, record));
        }
    }
}

/// Against time alone. A granted acquire that says it waited stood in line that long, by a clock
/// that is not faster than the bound, before its answer was read: what was asked for after the
/// moment that follows from this stands behind it.
///
/// Only for a history in which no node was taken for dead: a waiter of such a node is passed over
/// until it is back, and nothing that a client sees tells of it.
pub(super) fn by_time(records: &[Record], clocks: ClockBound<'_>) -> Vec<Violation> {
    let granted = once(records).filter_map(|record| match record.told {
        Told::Granted {
            token, waited_ms, ..
        } => {
            let joined = clocks.began(record.returned, waited_ms);
            Some((record, token, joined))
        }
        _ => None,
    });
    let mut asked: Vec<(&Record, u64, Moment)> = granted.collect();
    let mut joined = asked.clone();
    joined.sort_unstable_by_key(|(record, _, joined)| (&record.key, *joined));
    asked.sort_unstable_by_key(|(record, ..)| (&record.key, record.invoked));
    let mut violations = Vec::new();
    let mut joined = joined.into_iter().peekable();
    let mut highest: Option<(&Record, u64)> = None;
    for (record, token, _) in asked {
        let now = (&record.key, record.invoked);
        while let Some((ahead, token, _)) = joined.next_if(|(r, _, at)| (&r.key, *at) < now) {
            let last = highest.filter(|(last, _)| last.key == ahead.key);
            if last.is_none_or(|(_, last)| last < token) {
                highest = Some((ahead, token));
            }
        }
        let ahead = highest.filter(|(ahead, last)| ahead.key == record.key && *last > token);
        if let Some((ahead, _)) = ahead {
            let (ahead, record) = (account::record(ahead), account::record(record));
            let what = format!("overtaken by one that came later: {ahead}; {record}");
            violations.push(Violation::new(Check::Q, what));
        }
    }
    violations
}

/// The fifo acquires of uuids that were asked for once.
fn once(records: &[Record]) -> impl Iterator<Item = &Record> {
    let mut times: HashMap<(&str, &str), u32> = HashMap::new();
    for record in records {
        if matches!(record.ask, Ask::Acquire { .. }) {
            *times.entry((&record.key, &record.uuid)).or_default() += 1;
        }
    }
    records.iter().filter(move |record| {
        matches!(record.ask, Ask::Acquire { fifo: true, .. })
            && times.get(&(record.key.as_str(), record.uuid.as_str())) == Some(&1)
    })
}
