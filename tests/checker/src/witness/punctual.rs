//! T2, T3 and T5: what the log says that somebody is to be told, and when they were, where nothing is
//! wrong.
//!
//! A healthy cluster's time goes with real time: between the two lies one distance, which the requests
//! and answers of a spell enclose. So a moment by cluster time is one of the history's clock, a few
//! milliseconds wide.

use evermind_lock::command::OpId;

use super::brackets::{asked_last, read_first};
use super::replay::{Replay, Seen, Want};
use super::{broken, shown};
use crate::health::{Health, Healthy, later};
use crate::history::{History, Lost, Moment, Record};
use crate::verdict::{Check, Verdict};

const NS_PER_MS: i128 = 1_000_000;

/// How much later than cluster time real time is in a spell, in ns, and from which entry to which.
#[derive(Debug, Clone, Copy)]
struct Distance {
    least: i128,
    most: i128,
    first: usize,
    last: usize,
}

impl Distance {
    /// The latest moment that may be this one of cluster time, which counts whole ms.
    fn latest(self, cluster_ms: u64) -> Moment {
        moment(self.most + (i128::from(cluster_ms) + 1) * NS_PER_MS)
    }

    /// The latest that cluster time may be at a moment.
    fn cluster_latest_ms(self, at: Moment) -> u64 {
        let ms = (i128::from(at.0) - self.least).div_euclid(NS_PER_MS) + 1;
        u64::try_from(ms).unwrap_or_default()
    }

    /// The earliest that cluster time may be at a moment.
    fn cluster_earliest_ms(self, at: Moment) -> u64 {
        let ms = (i128::from(at.0) - self.most).div_euclid(NS_PER_MS) - 1;
        u64::try_from(ms).unwrap_or_default()
    }
}

fn moment(ns: i128) -> Moment {
    Moment(u64::try_from(ns).unwrap_or_default())
}

pub(super) fn check(history: &History, replay: &Replay, health: &Health, verdict: &mut Verdict) {
    let read_first = read_first(history, replay);
    let asked_last = asked_last(history, replay);
    for spell in &health.spells {
        let Some(distance) = distance(spell, history, replay, &read_first, &asked_last) else {
            continue;
        };
        check_told(spell, distance, history, replay, health, verdict);
        check_left(spell, distance, history, replay, health, verdict);
        check_away(spell, distance, history, replay, health, verdict);
        check_dropped(spell, distance, history, replay, verdict);
    }
}

/// `None`: nothing was asked and answered in the spell.
fn distance(
    spell: &Healthy,
    history: &History,
    replay: &Replay,
    read_first: &[Option<usize>],
    asked_last: &[Moment],
) -> Option<Distance> {
    let (mut least, mut most) = (None::<i128>, None::<i128>);
    let mut places = None;
    for (place, cluster_ms) in replay.now_ms.iter().enumerate() {
        let read = read_first[place].map(|number| history.records[number].returned);
        let (asked, Some(read)) = (asked_last[place], read) else {
            continue;
        };
        if asked < spell.from || read > spell.until || !replay.stamped[place] {
            continue;
        }
        let cluster_ns = i128::from(*cluster_ms) * NS_PER_MS;
        // Stamped when it was asked for or later, and before it was read of.
        let low = i128::from(asked.0) - cluster_ns - NS_PER_MS;
        let high = i128::from(read.0) - cluster_ns;
        least = Some(least.map_or(low, |least| least.max(low)));
        most = Some(most.map_or(high, |most| most.min(high)));
        let (from, _) = places.unwrap_or((place, place));
        places = Some((from, place));
    }
    let (from, until) = places?;
    Some(Distance {
        least: least?,
        most: most?,
        first: from,
        last: until,
    })
}

/// T2 and T3: whoever waited is told in time.
fn check_told(
    spell: &Healthy,
    distance: Distance,
    history: &History,
    replay: &Replay,
    health: &Health,
    verdict: &mut Verdict,
) {
    let ms = |place: usize| replay.now_ms[place];
    for ending in &replay.endings {
        let within_ms = health.tells_within_ms(ending.overdue);
        let due = distance.latest(ending.due_ms);
        let by = later(due, within_ms);
        let place = usize::try_from(ending.index - replay.first_index).unwrap_or(usize::MAX);
        // Behind the last entry of the spell it is late where that one says so.
        let counts = ending.due_ms >= ms(distance.first)
            && (place <= distance.last || ending.due_ms + within_ms < ms(distance.last));
        if !counts || by > spell.until {
            continue;
        }
        let seen = replay.operations.get(&ending.operation);
        let record = seen
            .and_then(|seen| seen.claimed_by)
            .map(|n| &history.records[n]);
        // On a connection from before, which may have been harmed, an answer may come late.
        let record = record.filter(|r| r.way.connected >= spell.clear && r.invoked >= spell.clear);
        let Some(record) = record.filter(|record| record.returned > by) else {
            continue;
        };
        let check = if ending.is_grant {
            Check::T3
        } else {
            Check::T2
        };
        let what = format!(
            "told {} ms after it was due at {} ms of cluster time, in entry {}: {}",
            (record.returned.0 - due.0) / 1_000_000,
            ending.due_ms,
            ending.index,
            shown(record)
        );
        broken(verdict, check, what);
    }
}

/// T5: whoever hung up holds nothing, and waits for nothing.
fn check_left(
    spell: &Healthy,
    distance: Distance,
    history: &History,
    replay: &Replay,
    health: &Health,
    verdict: &mut Verdict,
) {
    for record in &history.records {
        let by = later(record.returned, health.leaves_ms);
        if record.way.lost != Some(Lost::HungUp)
            || record.returned < spell.from
            || by > spell.until
            || record.way.connected < spell.quiet
        {
            continue;
        }
        let mut own = replay.operations_of(record).iter().filter(|id| {
            let seen = &replay.operations[id];
            id.node == record.node && seen.claimed_by.is_none() && seen.is_of(record)
        });
        // Of several that are alike nobody knows which is whose.
        let (Some(operation), None) = (own.next(), own.next()) else {
            continue;
        };
        let alike = history.records.iter().filter(|other| {
            other.uuid == record.uuid && other.node == record.node && other.ask == record.ask
        });
        if alike.count() > 1 {
            continue;
        }
        let seen = &replay.operations[operation];
        if let Some(why) = stays(seen, distance, record, health) {
            let what = format!(
                "{why} {} ms after its caller hung up: {}",
                health.leaves_ms,
                shown(record)
            );
            broken(verdict, Check::T5, what);
        }
    }
}

/// What an acquire whose caller hung up still has at a moment.
fn stays(
    seen: &Seen,
    distance: Distance,
    record: &Record,
    health: &Health,
) -> Option<&'static str> {
    let by = later(record.returned, health.leaves_ms);
    let by_ms = distance.cluster_latest_ms(by);
    if !matches!(seen.want, Want::Acquire { .. }) || seen.given_up_ms.is_some_and(|ms| ms <= by_ms)
    {
        return None;
    }
    match seen.ended_ms {
        Some(ended_ms) if seen.took_effect => {
            // Its answer may have been with the socket when word of the hang-up came.
            let gone_ms = distance.cluster_latest_ms(later(record.returned, health.transit_ms));
            (ended_ms > gone_ms && ended_ms <= by_ms).then_some("holds the lock")
        }
        Some(ended_ms) if ended_ms <= by_ms => None,
        _ => Some("waits"),
    }
}

/// T3: a node that is back has its callers in line again.
fn check_away(
    spell: &Healthy,
    distance: Distance,
    history: &History,
    replay: &Replay,
    health: &Health,
    verdict: &mut Verdict,
) {
    let by = later(spell.from, health.answers_ms);
    let (from_ms, by_ms) = (
        distance.cluster_earliest_ms(spell.from),
        distance.cluster_latest_ms(by),
    );
    if by > spell.until {
        return;
    }
    for (operation, seen) in &replay.operations {
        let is_away = seen.away.iter().any(|(since_ms, until_ms)| {
            *since_ms < from_ms && until_ms.is_none_or(|until_ms| until_ms > by_ms)
        });
        let waits = seen.claimed_by.map(|number| &history.records[number]);
        let waits = waits.filter(|record| {
            record.returned > by
                && record.invoked >= spell.clear
                && record.way.connected >= spell.clear
        });
        if let Some(record) = waits.filter(|_| is_away && is_of_this_boot(replay, *operation)) {
            let what = format!(
                "{operation:?} is detached from its wait, its node being back for two seconds: {}",
                shown(record)
            );
            broken(verdict, Check::T3, what);
        }
    }
}

/// T3: no node that is back loses the places of its callers.
fn check_dropped(
    spell: &Healthy,
    distance: Distance,
    history: &History,
    replay: &Replay,
    verdict: &mut Verdict,
) {
    let back_ms = distance.cluster_latest_ms(spell.from);
    for (index, operation) in &replay.dropped {
        let place = usize::try_from(index - replay.first_index).unwrap_or(usize::MAX);
        // Of the same leader, so that its clock is the one that the spell tells of.
        let counts = place <= distance.last
            && replay.terms[place] == replay.terms[distance.first]
            && replay.now_ms[place] > back_ms;
        if counts && is_waited_for(spell, history, replay, *operation) {
            let what = format!(
                "entry {index} drops the place of {operation:?} at {} ms of cluster time, its node being back since \
                 {back_ms} ms at the latest",
                replay.now_ms[place]
            );
            broken(verdict, Check::T3, what);
        }
    }
}

/// Whether a caller that nothing has harmed waits for its answer, its node running all the while.
fn is_waited_for(spell: &Healthy, history: &History, replay: &Replay, operation: OpId) -> bool {
    let seen = replay.operations.get(&operation);
    let is_it = |record: &&Record| {
        record.node == operation.node
            && record.returned > spell.from
            && record.invoked >= spell.clear
            && record.way.connected >= spell.clear
            && seen.is_some_and(|seen| seen.is_of(record))
    };
    history.records.iter().any(|record| is_it(&record)) && is_of_this_boot(replay, operation)
}

/// Whether its node was not started anew since.
fn is_of_this_boot(replay: &Replay, operation: OpId) -> bool {
    replay.model.boot_of(operation.node) == Some(operation.boot)
}
