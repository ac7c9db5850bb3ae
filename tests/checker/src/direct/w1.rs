//! W1, as answers show it: what was asked for after another answer was read stands behind it in the
//! log.

use super::account;
use crate::history::{Ask, Record};
use crate::verdict::{Check, Violation};

pub(super) fn check(records: &[Record]) -> Vec<Violation> {
    let placed = records.iter().filter_map(|r| Some((r, r.log_index?)));
    let mut asked: Vec<(&Record, u64)> = placed.collect();
    let mut read = asked.clone();
    read.sort_unstable_by_key(|(record, _)| record.returned);
    asked.sort_unstable_by_key(|(record, _)| record.invoked);
    let mut violations = Vec::new();
    let mut read = read.into_iter().peekable();
    let mut newest: Option<(&Record, u64)> = None;
    for (record, index) in asked {
        while let Some(earlier) = read.next_if(|(other, _)| other.returned < record.invoked) {
            if newest.is_none_or(|(_, highest)| highest < earlier.1) {
                newest = Some(earlier);
            }
        }
        // A look has no entry of its own: it may see what the last entry left.
        let lowest = if record.ask == Ask::Look {
            index.saturating_add(1)
        } else {
            index
        };
        if let Some((earlier, _)) = newest.filter(|(_, highest)| *highest >= lowest) {
            let (earlier, record) = (account::record(earlier), account::record(record));
            let what = format!("the log contradicts time: {earlier}; {record}");
            violations.push(Violation::new(Check::W1, what));
        }
    }
    violations
}
