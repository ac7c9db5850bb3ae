//! F2: a grant that was asked for after another was read of has the higher token, on any lock.

use super::account;
use crate::grants::Grant;
use crate::history::{Moment, Record, Told};
use crate::verdict::{Check, Violation};

/// Where a token was read: a token read of by a look is as surely given out as one that was granted.
struct Read<'a> {
    at: Moment,
    token: u64,
    look: Option<&'a Record>,
}

pub(super) fn check(grants: &[Grant<'_>], records: &[Record]) -> Vec<Violation> {
    let granted = grants.iter().map(|grant| Read {
        at: grant.acked,
        token: grant.token,
        look: None,
    });
    let looked = records.iter().filter_map(|record| match record.told {
        Told::Held { token, .. } => Some(Read {
            at: record.returned,
            token,
            look: Some(record),
        }),
        _ => None,
    });
    let mut read: Vec<Read<'_>> = granted.chain(looked).collect();
    read.sort_unstable_by_key(|read| read.at);
    let mut asked: Vec<&Grant<'_>> = grants.iter().collect();
    asked.sort_unstable_by_key(|grant| grant.asked);

    let mut violations = Vec::new();
    let mut read = read.into_iter().peekable();
    let mut highest: Option<Read<'_>> = None;
    for grant in asked {
        while let Some(earlier) = read.next_if(|earlier| earlier.at < grant.asked) {
            if highest.as_ref().is_none_or(|h| h.token < earlier.token) {
                highest = Some(earlier);
            }
        }
        if let Some(earlier) = highest.as_ref().filter(|h| h.token >= grant.token) {
            let what = format!(
                "a token did not rise: {} was read {} ({}), then {}",
                earlier.token,
                account::at(earlier.at),
                earlier
                    .look
                    .map_or_else(|| "as granted".to_owned(), account::record),
                account::grant(grant)
            );
            violations.push(Violation::new(Check::F2, what));
        }
    }
    violations
}
