//! X: a fenced store takes no token below the highest it took, and refuses no true holder.

use std::collections::HashMap;

use super::account;
use crate::grants::Grant;
use crate::history::Write;
use crate::verdict::{Check, Violation};

pub(super) fn check(grants: &[Grant<'_>], writes: &[Write]) -> Vec<Violation> {
    let mut violations = taken_below_the_highest(writes);
    let mut holds: HashMap<(&str, &str, u64), &Grant<'_>> = HashMap::new();
    for grant in grants {
        holds.insert((grant.key, grant.uuid, grant.token), grant);
    }
    for write in writes.iter().filter(|write| !write.accepted) {
        let hold = holds.get(&(write.key.as_str(), write.uuid.as_str(), write.token));
        let believed = |grant: &&&Grant<'_>| grant.acked < write.at && write.at < grant.until;
        if let Some(grant) = hold.filter(believed) {
            let what = format!(
                "a true holder was refused: {}; {}",
                account::write(write),
                account::grant(grant)
            );
            violations.push(Violation::new(Check::X, what));
        }
    }
    violations
}

fn taken_below_the_highest(writes: &[Write]) -> Vec<Violation> {
    let mut taken: Vec<&Write> = writes.iter().filter(|write| write.accepted).collect();
    // Of writes at one moment the order is not known: rising tokens are the innocent one.
    taken.sort_unstable_by_key(|write| (&write.key, write.at, write.token));
    let mut violations = Vec::new();
    let mut highest: Option<&Write> = None;
    for write in taken {
        let last = highest.filter(|last| last.key == write.key);
        if let Some(last) = last.filter(|last| last.token > write.token) {
            let (last, write) = (account::write(last), account::write(write));
            let what = format!("a store went back: {last}; {write}");
            violations.push(Violation::new(Check::X, what));
        } else {
            highest = Some(write);
        }
    }
    violations
}
