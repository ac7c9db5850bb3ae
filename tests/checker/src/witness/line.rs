//! Q on the log: those who asked for order, and never left the line, are served in the order of
//! their first entries.

use std::collections::BTreeMap;

use super::replay::{Replay, Seen, Want};
use super::{broken, shown};
use crate::history::{History, Record, Told};
use crate::verdict::{Check, Verdict};

/// One uuid in the line of a lock.
#[derive(Clone, Copy)]
struct Stood<'a> {
    from: u64,
    until: u64,
    granted: bool,
    record: &'a Record,
}

pub(super) fn check(history: &History, replay: &Replay, verdict: &mut Verdict) {
    let mut lines: BTreeMap<&str, Vec<Stood<'_>>> = BTreeMap::new();
    for (number, record) in history.records.iter().enumerate() {
        let operation = replay.answered_by[number];
        let seen = operation.and_then(|operation| replay.operations.get(&operation));
        if let Some(stood) = seen.and_then(|seen| stood(seen, record, replay)) {
            lines.entry(&record.key).or_default().push(stood);
        }
    }
    for mut line in lines.into_values() {
        line.sort_by_key(|stood| stood.from);
        let mut longest: Option<Stood<'_>> = None;
        for stood in line {
            if let Some(before) = longest
                && stood.granted
                && before.until > stood.until
            {
                let what = format!(
                    "granted in entry {} before one that stood in line since entry {}: {}; {}",
                    stood.until,
                    before.from,
                    shown(stood.record),
                    shown(before.record)
                );
                broken(verdict, Check::Q, what);
            }
            if longest.is_none_or(|before| before.until < stood.until) {
                longest = Some(stood);
            }
        }
    }
}

fn stood<'a>(seen: &Seen, record: &'a Record, replay: &Replay) -> Option<Stood<'a>> {
    let Want::Acquire { fifo: true, .. } = seen.want else {
        return None;
    };
    // One that came back has another story, which the replay tells.
    let others = replay.operations_of(record).iter();
    let acquires = others
        .filter_map(|operation| replay.operations.get(operation))
        .filter(|seen| matches!(seen.want, Want::Acquire { .. }));
    if seen.left || acquires.count() != 1 {
        return None;
    }
    let granted = match &record.told {
        Told::Granted { .. } => true,
        Told::Refused { code, .. } if code == "lock_held" => false,
        _ => return None,
    };
    Some(Stood {
        from: seen.index,
        until: record.log_index?,
        granted,
        record,
    })
}
