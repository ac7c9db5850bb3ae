//! W1 and W2: the log's order and its clock against real time.
//!
//! What is known of an entry's real time: an operation's own entry came after its request was sent,
//! and the entry of an answer came before the answer was read. Entries come one after the other, so
//! each bound holds for those before or behind it, too.

use super::replay::Replay;
use super::{broken, shown};
use crate::clocks::ClockBound;
use crate::history::{History, Moment, Told};
use crate::verdict::{Check, Verdict};

const NS_PER_MS: u128 = 1_000_000;

/// By entry, from the first on: the record whose answer was read first, of this entry's answers and
/// of all later ones.
pub(super) fn read_first(history: &History, replay: &Replay) -> Vec<Option<usize>> {
    let mut first: Vec<Option<usize>> = vec![None; replay.now_ms.len()];
    let sooner = |a: Option<usize>, b: Option<usize>| {
        [a, b]
            .into_iter()
            .flatten()
            .min_by_key(|n| history.records[*n].returned)
    };
    for (number, record) in history.records.iter().enumerate() {
        let index = record.log_index.filter(|_| record.told != Told::Unknown);
        let place = index.and_then(|index| index.checked_sub(replay.first_index));
        let slot = place.and_then(|place| first.get_mut(usize::try_from(place).ok()?));
        if let Some(slot) = slot {
            *slot = sooner(*slot, Some(number));
        }
    }
    let mut later = None;
    for slot in first.iter_mut().rev() {
        later = sooner(*slot, later);
        *slot = later;
    }
    first
}

/// By entry, from the first on: when the latest of the requests was sent that this entry or an
/// earlier one is of. The entry came into the log after that.
pub(super) fn asked_last(history: &History, replay: &Replay) -> Vec<Moment> {
    let mut last = Moment::default();
    let asked = asked(history, replay).into_iter();
    asked
        .map(|number| {
            let invoked = number.map(|number| history.records[number].invoked);
            last = last.max(invoked.unwrap_or_default());
            last
        })
        .collect()
}

/// By entry: the request that asked for it.
fn asked(history: &History, replay: &Replay) -> Vec<Option<usize>> {
    let mut asked: Vec<Option<usize>> = vec![None; replay.now_ms.len()];
    for (number, record) in history.records.iter().enumerate() {
        // Which of several is whose is not sure enough to blame anything.
        let alike = replay.operations_of(record).iter();
        let alike = alike.filter(|op| replay.operations.get(op).is_some_and(|s| s.is_of(record)));
        let own = replay.own_index(number).filter(|_| alike.count() == 1);
        if let Some(place) = own.and_then(|own| place(replay, own)) {
            asked[place] = Some(number);
        }
    }
    asked
}

/// The place of an entry among those replayed.
fn place(replay: &Replay, index: u64) -> Option<usize> {
    let place = usize::try_from(index.checked_sub(replay.first_index)?).ok()?;
    (place < replay.now_ms.len()).then_some(place)
}

/// W1: nothing is asked after an answer of its own entry or a later one was read.
pub(super) fn check_order(history: &History, replay: &Replay, verdict: &mut Verdict) {
    let read_first = read_first(history, replay);
    for (number, record) in history.records.iter().enumerate() {
        let own = replay.own_index(number);
        let Some(place) = own.and_then(|own| place(replay, own)) else {
            continue;
        };
        if let Some(earlier) = read_first[place].map(|n| &history.records[n])
            && earlier.returned < record.invoked
        {
            let what = format!(
                "entry {} was asked for when an answer of entry {} had been read: {}; {}",
                own.unwrap_or_default(),
                earlier.log_index.unwrap_or_default(),
                shown(record),
                shown(earlier)
            );
            broken(verdict, Check::W1, what);
        }
    }
}

/// W2: between two entries, cluster time moves by no more than real time can have passed: from the
/// moment the first was asked for to the moment an answer of the second, or of a later one, was
/// read.
pub(super) fn check_clock(
    history: &History,
    replay: &Replay,
    clocks: ClockBound<'_>,
    verdict: &mut Verdict,
) {
    let read_first = read_first(history, replay);
    let asked = asked(history, replay);
    let by_cluster = |place: usize| u128::from(replay.now_ms[place]) * NS_PER_MS * 1000;
    // How far cluster time is behind real time, at the entry where it is most so.
    let mut least: Option<(i128, usize, usize)> = None;
    for place in 0..replay.now_ms.len() {
        if let Some((behind, from, first)) = least
            && let Some(read) = read_first[place]
        {
            let answered = &history.records[read];
            let ahead = signed(by_cluster(place)) - signed(clocks.most(answered.returned));
            if ahead > behind + signed(NS_PER_MS * 1000) {
                let what = format!(
                    "cluster time went from {} to {} ms between entries {} and {}, in at most \
                     {:.3} ms of real time: {}; {}",
                    replay.now_ms[from],
                    replay.now_ms[place],
                    replay.first_index + from as u64,
                    replay.first_index + place as u64,
                    ms(history.records[first].invoked.0, answered.returned.0),
                    shown(&history.records[first]),
                    shown(answered)
                );
                broken(verdict, Check::W2, what);
                // The same jump is behind every later pair.
                return;
            }
        }
        if let Some(number) = asked[place].filter(|_| replay.stamped[place]) {
            let invoked = history.records[number].invoked;
            let behind = signed(by_cluster(place)) - signed(clocks.most(invoked));
            if least.is_none_or(|(least, ..)| behind < least) {
                least = Some((behind, place, number));
            }
        }
    }
}

fn signed(value: u128) -> i128 {
    i128::try_from(value).expect("a history lasts less than ages")
}

#[allow(clippy::cast_precision_loss)]
fn ms(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1e6
}
