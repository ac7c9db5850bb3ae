//! W4 for those who were told nothing: the log says what came of them.

use std::collections::BTreeMap;

use super::replay::{Replay, Seen, Want};
use super::{broken, shown};
use crate::health::later;
use crate::history::{History, Lost, Record, Told};
use crate::verdict::{Check, Verdict};

/// Requests that cannot be told apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    key: String,
    uuid: String,
    idempotency: Option<String>,
    want: Want,
}

impl Alike {
    fn of(record: &Record) -> Option<Self> {
        Some(Self {
            key: record.key.clone(),
            uuid: record.uuid.clone(),
            idempotency: record.idempotency.clone(),
            want: Want::of(&record.ask)?,
        })
    }

    fn of_entry(seen: &Seen) -> Self {
        Self {
            key: seen.key.as_str().into(),
            uuid: (&*seen.holder.text()).into(),
            idempotency: seen.idempotency.clone(),
            want: seen.want,
        }
    }
}

#[derive(Default)]
struct Group {
    /// Told nothing.
    unknown: Vec<usize>,
    /// Entries that answered nobody.
    entries: Vec<u64>,
    /// How many of these took effect.
    took_effect: u64,
}

/// Every entry that answered nobody must be of somebody who was told nothing; then it is known of
/// all of them whether they took effect.
pub(super) fn check_unknown(history: &History, replay: &Replay, verdict: &mut Verdict) {
    let mut groups: BTreeMap<Alike, Group> = BTreeMap::new();
    for (number, record) in history.records.iter().enumerate() {
        let Some(alike) = Alike::of(record) else {
            continue;
        };
        let group = groups.entry(alike).or_default();
        // One that was refused on the way without an entry may still have left one behind, which
        // the next loop finds.
        if record.told == Told::Unknown {
            group.unknown.push(number);
        }
    }
    for (operation, seen) in &replay.operations {
        if seen.claimed_by.is_some() || replay.resumed.contains(operation) {
            continue;
        }
        let alike = Alike::of_entry(seen);
        if let Some(group) = groups.get_mut(&alike) {
            group.entries.push(seen.index);
            group.took_effect += u64::from(seen.took_effect);
        } else {
            let what = format!(
                "entry {} does what nobody asked for: {:?} of '{}' as '{}'",
                seen.index, alike.want, alike.key, alike.uuid
            );
            broken(verdict, Check::W4, what);
        }
    }
    for (alike, mut group) in groups {
        group.entries.sort_unstable();
        check_group(&alike, &group, history, replay, verdict);
    }
}

/// W4 for those who were told that nobody knows: no node says of an operation that it is answered while
/// its caller waits. A caller is told so 10 s after its window, and what is left of its operation then
/// has no effect.
pub(super) fn check_stale(history: &History, replay: &Replay, verdict: &mut Verdict) {
    const UNKNOWN_AFTER_MS: u64 = 10_000;
    for record in &history.records {
        let given_up = later(record.invoked, record.window_ms() + UNKNOWN_AFTER_MS);
        if record.way.lost != Some(Lost::Said) || record.returned >= given_up {
            continue;
        }
        let stale = replay.operations_of(record).iter().find(|id| {
            let seen = &replay.operations[id];
            id.node == record.node && seen.is_stale && seen.is_of(record)
        });
        if let Some(operation) = stale {
            let what = format!(
                "{operation:?} is stale, and its caller waited for it: {}",
                shown(record)
            );
            broken(verdict, Check::W4, what);
        }
    }
}

/// W2 for grants that are given back as told to nobody: nobody may have read of them.
pub(super) fn check_given_back(history: &History, replay: &Replay, verdict: &mut Verdict) {
    // Who was answered by an entry is known where the log has the requests of all.
    if replay.first_index > 1 {
        return;
    }
    for (index, operation) in &replay.given_back {
        let seen = replay.operations.get(operation);
        let Some(number) = seen.and_then(|seen| seen.claimed_by) else {
            continue;
        };
        let record = &history.records[number];
        // Of two requests that are alike and answered by one entry, either may be whose caller left.
        // A node answers its own.
        let is_sure = replay.operations_of(record).iter().all(|id| {
            let other = &replay.operations[id];
            id.node != record.node || other.claimed_by.is_some() || !other.is_of(record)
        });
        if operation.node == record.node && is_sure && matches!(record.told, Told::Granted { .. }) {
            let what = format!(
                "entry {index} gives back what its caller read of: {}",
                shown(record)
            );
            broken(verdict, Check::W2, what);
        }
    }
}

fn check_group(
    alike: &Alike,
    group: &Group,
    history: &History,
    replay: &Replay,
    verdict: &mut Verdict,
) {
    if group.entries.len() > group.unknown.len() {
        let what = format!(
            "{} requests {:?} of '{}' as '{}' were told nothing, and {} of them are in the log: \
             entries {:?}",
            group.unknown.len(),
            alike.want,
            alike.key,
            alike.uuid,
            group.entries.len(),
            group.entries
        );
        broken(verdict, Check::W4, what);
        return;
    }
    let mut resolved = 0;
    for number in &group.unknown {
        if replay.now_ms.is_empty() || replay.first_index > 1 {
            let what = format!(
                "the log does not begin: {}",
                shown(&history.records[*number])
            );
            verdict.undecided.push(what);
        } else {
            resolved += 1;
        }
    }
    let took_effect = group.took_effect.min(resolved);
    verdict.resolved += resolved;
    verdict.took_effect += took_effect;
    verdict.without_effect += resolved - took_effect;
}
