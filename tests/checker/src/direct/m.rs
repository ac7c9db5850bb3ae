//! M: what two callers believe of one lock never overlaps.

use super::account::grant as account;
use crate::grants::Grant;
use crate::verdict::{Check, Violation};

/// `grants` by key and by the moment they were read of, as [`crate::grants::grants`] gives them.
///
/// One uuid with two tokens at once is two grants at once, and as wrong.
pub(super) fn check(grants: &[Grant<'_>]) -> Vec<Violation> {
    let mut violations = Vec::new();
    // Of one key, the grant believed in the longest so far.
    let mut longest: Option<&Grant<'_>> = None;
    for grant in grants.iter().filter(|grant| grant.was_believed()) {
        let last = longest.filter(|last| last.key == grant.key);
        if let Some(last) = last.filter(|last| grant.acked < last.until) {
            let what = format!("two holders at once: {}; {}", account(last), account(grant));
            violations.push(Violation::new(Check::M, what));
        }
        if last.is_none_or(|last| last.until < grant.until) {
            longest = Some(grant);
        }
    }
    violations
}
