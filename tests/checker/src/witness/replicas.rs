//! W5: every node has come to the same table, which is what the log and the specification make.
//! And W4 in what it cost.

use super::Ends;
use super::broken;
use super::replay::Replay;
use crate::committed::Committed;
use crate::stored::TableState;
use crate::verdict::{Check, Verdict};

pub(super) fn check(committed: &Committed, replay: &Replay, ends: &Ends, verdict: &mut Verdict) {
    if !ends.tables.is_empty() {
        let replayed = TableState::replay(committed);
        for (node, table) in &ends.tables {
            if *table != replayed {
                let what = format!(
                    "node {node} has stored another table than the log makes: {}",
                    difference(table, &replayed)
                );
                broken(verdict, Check::W5, what);
            }
            if let Some(what) = from_model(table, replay) {
                let what = format!("node {node} and the specification: {what}");
                broken(verdict, Check::W5, what);
            }
        }
    }
    let counted = replay.model.used();
    for (node, used) in &ends.used {
        for (licence, used) in used {
            let counted = counted.get(licence).copied().unwrap_or_default();
            if *used != counted {
                let what = format!(
                    "node {node} says that licence {} was charged {used}, and it is {counted}",
                    licence.0
                );
                broken(verdict, Check::W4, what);
            }
        }
    }
}

fn difference(table: &TableState, other: &TableState) -> String {
    if table.applied != other.applied {
        return format!("at entry {}, not {}", table.applied, other.applied);
    }
    if table.now_ms != other.now_ms {
        return format!("at {} ms, not {} ms", table.now_ms, other.now_ms);
    }
    let differs = table
        .held
        .iter()
        .find(|(resource, view)| other.held.get(resource) != Some(view));
    if let Some((resource, view)) = differs {
        let other = other.held.get(resource);
        return format!("'{}' is {view:?}, not {other:?}", resource.key);
    }
    if let Some(resource) = other.held.keys().find(|r| !table.held.contains_key(r)) {
        return format!("'{}' is not held", resource.key);
    }
    if table.used != other.used {
        return format!("charged {:?}, not {:?}", table.used, other.used);
    }
    format!("digest {:032x}, not {:032x}", table.digest, other.digest)
}

fn from_model(table: &TableState, replay: &Replay) -> Option<String> {
    let model = &replay.model;
    if table.now_ms != model.now_ms() {
        return Some(format!("{} ms and {} ms", table.now_ms, model.now_ms()));
    }
    if table.next_token != model.tokens() + 1 {
        let (theirs, ours) = (table.next_token, model.tokens() + 1);
        return Some(format!("the next token is {theirs} and {ours}"));
    }
    let held = model.held_locks();
    let resources = table.held.keys().chain(held.keys());
    let differs = resources
        .into_iter()
        .find(|resource| table.held.get(resource) != held.get(resource));
    let resource = differs?;
    Some(format!(
        "'{}' is {:?} and {:?}",
        resource.key,
        table.held.get(resource),
        held.get(resource)
    ))
}
