//! The rules that need nothing but what clients saw, one a file. Each takes `n log n` steps.

pub(crate) mod account;
mod f1;
mod f2;
mod l;
mod m;
mod q;
#[cfg(test)]
mod tests;
mod w1;
mod w4;
mod x;

use crate::clocks::ClockBound;
use crate::grants::grants;
use crate::history::{History, Record, Told};
use crate::verdict::Verdict;

/// The index of the first entry of an acquire's wait, where it is known.
pub type EntryIndex<'a> = &'a dyn Fn(&Record) -> Option<u64>;

/// Checks every black-box rule, and of W1 and W4 what can be seen from outside.
///
/// `entry_index`, where the committed log is at hand, gives the index of the first entry of an
/// acquire's wait; nothing where that is not known, and nothing of an acquire whose wait was
/// detached for a while. Without it the order of the line is not checked: a client cannot tell who
/// stands before it, nor that its node was taken for dead.
pub fn check_direct(
    history: &History,
    clocks: ClockBound<'_>,
    entry_index: Option<EntryIndex<'_>>,
) -> Verdict {
    let History { records, writes } = history;
    let grants = grants(history, clocks);
    let mut violations = m::check(&grants);
    violations.extend(f1::check(&grants, records));
    violations.extend(f2::check(&grants, records));
    violations.extend(entry_index.map_or_else(Vec::new, |entry| q::by_entries(records, entry)));
    violations.extend(l::check(&grants, records));
    violations.extend(x::check(&grants, writes));
    violations.extend(w1::check(records));
    violations.extend(w4::check(&grants, records));
    Verdict {
        violations,
        ..counts(history)
    }
}

/// Checks the order of each line by what its waiters were told of their waits. Only for a history
/// in which no node was taken for dead; see [`check_direct`].
pub fn check_line_by_time(history: &History, clocks: ClockBound<'_>) -> Verdict {
    Verdict {
        violations: q::by_time(&history.records, clocks),
        ..counts(history)
    }
}

/// A verdict of nothing yet, with the counts of `history`.
pub(crate) fn counts(history: &History) -> Verdict {
    let unknown = |record: &&Record| record.told == Told::Unknown;
    Verdict {
        operations: history.records.len() as u64,
        ambiguous: history.records.iter().filter(unknown).count() as u64,
        ..Verdict::default()
    }
}
