//! L on the log: all that a look told (the token, what is left of the lease, how many wait, whether
//! in order) against the specification. Nobody is told who holds a lock: its uuid is the right to
//! release.
//!
//! A look enters no log, so its answer names no entry. What it saw came after every entry of which
//! an answer had been read when it was asked, and before every entry that was asked for when it had
//! been answered; and it is no older than what an earlier look saw. One state within these bounds
//! must be what was told, and usually there are few.

use std::collections::{BTreeMap, BTreeSet};

use evermind_lock::names::Resource;

use super::brackets;
use super::replay::Replay;
use super::{broken, shown};
use crate::committed::Committed;
use crate::history::{Ask, History, Moment, Record, Told};
use crate::spec::Model;
use crate::verdict::{Check, Verdict};

/// A look, and between which states it saw the lock: the number of entries that had been applied.
struct Look<'a> {
    record: &'a Record,
    from: usize,
    until: usize,
    /// What it was at the last state that was tried.
    was: Option<Told>,
}

pub(super) fn check(
    history: &History,
    committed: &Committed,
    replay: &Replay,
    verdict: &mut Verdict,
) {
    let mut coming = looks(history, replay);
    if coming.is_empty() {
        return;
    }
    // A later look is tried after those that were answered before it was asked.
    coming.sort_by_key(|look| (look.from, look.record.invoked));
    let mut coming = coming.into_iter().peekable();
    let resources = resources(replay);
    let mut model = committed.model();
    let mut open: Vec<Look<'_>> = Vec::new();
    let mut entries = committed.iter();
    let mut state = 0;
    loop {
        while let Some(look) = coming.next_if(|look| look.from <= state) {
            open.push(look);
        }
        open.sort_by_key(|look| look.record.invoked);
        // The first answer of a look that has not seen its state yet: whoever asked after that has
        // not, either.
        let mut unseen = Moment(u64::MAX);
        open.retain_mut(|look| {
            if look.record.invoked > unseen && look.until > state {
                return true;
            }
            let now = told(&model, resources.get(look.record.key.as_str()));
            if look.record.invoked <= unseen && now.contains(&look.record.told) {
                return false;
            }
            look.was = now.into_iter().next();
            if look.until <= state {
                unlike(look, replay, verdict);
                return false;
            }
            unseen = unseen.min(look.record.returned);
            true
        });
        let Some(entry) = entries.next() else { break };
        model.apply(entry.at, entry.command);
        state += 1;
    }
}

/// Every look that was told of the lock.
fn looks<'a>(history: &'a History, replay: &Replay) -> Vec<Look<'a>> {
    let read = brackets::read_first(history, replay);
    let asked = brackets::asked_last(history, replay);
    let saw = |record: &&Record| {
        record.ask == Ask::Look && matches!(record.told, Told::Held { .. } | Told::Free)
    };
    let look = |record: &'a Record| {
        let had_been_read = |number: &Option<usize>| {
            number.is_some_and(|number| history.records[number].returned < record.invoked)
        };
        Look {
            record,
            from: read.partition_point(had_been_read),
            until: asked.partition_point(|asked| *asked <= record.returned),
            was: None,
        }
    };
    history.records.iter().filter(saw).map(look).collect()
}

/// The locks of each key.
fn resources(replay: &Replay) -> BTreeMap<&str, BTreeSet<&Resource>> {
    let mut resources: BTreeMap<&str, BTreeSet<&Resource>> = BTreeMap::new();
    let seen = replay.operations.values();
    for resource in seen.filter_map(|seen| seen.resource.as_ref()) {
        let of_key = resources.entry(resource.key.as_str()).or_default();
        of_key.insert(resource);
    }
    resources
}

/// What a look at any of these is told.
fn told(model: &Model, resources: Option<&BTreeSet<&Resource>>) -> Vec<Told> {
    let one = |resource: &&Resource| match model.line(resource) {
        Some(line) => Told::Held {
            token: line.token,
            expires_in_ms: line.expires_ms.saturating_sub(model.now_ms()),
            waiting: line.waiting,
            fifo: line.fifo,
        },
        None => Told::Free,
    };
    match resources {
        Some(resources) => resources.iter().map(one).collect(),
        // Nobody ever asked for it.
        None => vec![Told::Free],
    }
}

fn unlike(look: &Look<'_>, replay: &Replay, verdict: &mut Verdict) {
    // The entry whose application makes state n is the n-th.
    let entry = |state: usize| (replay.first_index + state as u64).saturating_sub(1);
    let what = format!(
        "a look saw what the specification has at no entry from {} to {}, at the last of which it is \
         {:?}: {}",
        entry(look.from),
        entry(look.until),
        look.was,
        shown(look.record)
    );
    broken(verdict, Check::L, what);
}
