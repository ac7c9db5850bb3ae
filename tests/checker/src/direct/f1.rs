//! F1: a token belongs to one acquisition.

use std::collections::HashMap;

use super::account::{self, at};
use crate::grants::Grant;
use crate::history::{Record, Told};
use crate::verdict::{Check, Violation};

/// A look does not tell the holder, but of which lock the token is.
pub(super) fn check(grants: &[Grant<'_>], records: &[Record]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut owners: HashMap<u64, &Grant<'_>> = HashMap::new();
    for grant in grants {
        if let Some(other) = owners.insert(grant.token, grant) {
            let (other, grant) = (account::grant(other), account::grant(grant));
            let what = format!("one token for two: {other}; {grant}");
            violations.push(Violation::new(Check::F1, what));
        }
    }
    let mut keys: HashMap<u64, &str> = grants.iter().map(|g| (g.token, g.key)).collect();
    for record in records {
        let Told::Held { token, .. } = record.told else {
            continue;
        };
        let key = *keys.entry(token).or_insert(&record.key);
        if key != record.key {
            let what = format!(
                "a token of lock {key:?} seen on {:?} by a look sent {}, answered {}: token {token}",
                record.key,
                at(record.invoked),
                at(record.returned)
            );
            violations.push(Violation::new(Check::F1, what));
        }
    }
    violations
}
