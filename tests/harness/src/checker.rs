//! The black-box rules that every history must keep, whatever was killed meanwhile. Nothing here
//! knows how the server works.

use std::collections::HashMap;

use super::history::{Grant, History, Record};

/// Checks every rule, and panics with each violation.
#[track_caller]
pub fn assert_safe(history: &History) {
    let grants = history.grants();
    let mut violations = two_holders(&grants);
    violations.extend(shared_tokens(&grants));
    violations.extend(tokens_not_upward(&grants));
    violations.extend(log_against_time(&history.records()));
    assert!(
        violations.is_empty(),
        "{} violations: {violations:#?}",
        violations.len()
    );
}

/// M: what two callers believe of one lock never overlaps.
fn two_holders(grants: &[Grant]) -> Vec<String> {
    let mut believed: Vec<&Grant> = grants
        .iter()
        .filter(|grant| grant.acked < grant.believed_until)
        .collect();
    believed.sort_by_key(|grant| (&grant.key, grant.acked));
    let mut violations = Vec::new();
    let mut newest: Option<&Grant> = None;
    for grant in believed {
        match newest {
            Some(last) if last.key == grant.key => {
                if last.uuid != grant.uuid && grant.acked < last.believed_until {
                    violations.push(format!("two holders at once: {last:?} and {grant:?}"));
                }
                if grant.believed_until > last.believed_until {
                    newest = Some(grant);
                }
            }
            _ => newest = Some(grant),
        }
    }
    violations
}

/// F1: a token belongs to one acquisition.
fn shared_tokens(grants: &[Grant]) -> Vec<String> {
    let mut owners: HashMap<u64, &Grant> = HashMap::new();
    let mut violations = Vec::new();
    for grant in grants {
        if let Some(other) = owners.insert(grant.token, grant) {
            violations.push(format!("one token for two: {other:?} and {grant:?}"));
        }
    }
    violations
}

/// F2: a grant that was asked for after another was read has the higher token, on any lock.
fn tokens_not_upward(grants: &[Grant]) -> Vec<String> {
    let mut by_answer: Vec<&Grant> = grants.iter().collect();
    by_answer.sort_by_key(|grant| grant.acked);
    let mut by_request = by_answer.clone();
    by_request.sort_by_key(|grant| grant.asked);
    let mut violations = Vec::new();
    let mut read = by_answer.into_iter().peekable();
    let mut highest: Option<&Grant> = None;
    for grant in by_request {
        while let Some(earlier) = read.next_if(|earlier| earlier.acked < grant.asked) {
            if highest.is_none_or(|h| h.token < earlier.token) {
                highest = Some(earlier);
            }
        }
        if let Some(earlier) = highest.filter(|earlier| earlier.token >= grant.token) {
            violations.push(format!("a token went back: {earlier:?}, then {grant:?}"));
        }
    }
    violations
}

/// W1: what was asked for after another answer was read stands behind it in the log.
fn log_against_time(records: &[Record]) -> Vec<String> {
    let placed: Vec<(&Record, u64)> = records
        .iter()
        .filter_map(|record| Some((record, record.log_index?)))
        .collect();
    let mut returned = placed.clone();
    returned.sort_by_key(|(record, _)| record.returned);
    let mut invoked = placed;
    invoked.sort_by_key(|(record, _)| record.invoked);
    let mut violations = Vec::new();
    let mut answered = returned.into_iter().peekable();
    let mut newest: Option<(&Record, u64)> = None;
    for (record, index) in invoked {
        while let Some(earlier) = answered.next_if(|(other, _)| other.returned < record.invoked) {
            if newest.is_none_or(|(_, highest)| highest < earlier.1) {
                newest = Some(earlier);
            }
        }
        if let Some((earlier, _)) = newest.filter(|(_, highest)| *highest >= index) {
            violations.push(format!(
                "the log contradicts time: {earlier:?}, then {record:?}"
            ));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::history::{Kind, Told};

    /// A history in milliseconds from a common start.
    struct Script {
        start: Instant,
        history: History,
    }

    impl Script {
        fn new() -> Self {
            Self {
                start: Instant::now(),
                history: History::default(),
            }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn add(&self, kind: Kind, uuid: &str, sent_ms: u64, read_ms: u64, told: Told) -> &Self {
            self.history.record(Record {
                kind,
                key: "k".to_owned(),
                uuid: uuid.to_owned(),
                invoked: self.at(sent_ms),
                returned: self.at(read_ms),
                told,
                log_index: None,
            });
            self
        }

        fn grant(
            &self,
            uuid: &str,
            sent_ms: u64,
            read_ms: u64,
            token: u64,
            lease_ms: u64,
        ) -> &Self {
            let expires_in = Duration::from_millis(lease_ms);
            let told = Told::Holds {
                token,
                expires_in,
                waited: Duration::ZERO,
            };
            self.add(Kind::Acquire, uuid, sent_ms, read_ms, told)
        }
    }

    #[test]
    fn a_release_or_a_deadline_ends_a_belief() {
        let script = Script::new();
        script
            .grant("a", 0, 1, 1, 100)
            .add(Kind::Release, "a", 5, 7, Told::Released);
        script.grant("b", 4, 6, 2, 10).grant("c", 8, 14, 3, 10);
        assert_safe(&script.history);
    }

    #[test]
    fn two_holders_at_once_are_seen() {
        let script = Script::new();
        script.grant("a", 0, 1, 1, 100).grant("b", 2, 3, 2, 100);
        assert_eq!(two_holders(&script.history.grants()).len(), 1);
    }

    #[test]
    fn a_long_belief_is_compared_with_every_later_one() {
        let script = Script::new();
        script
            .grant("a", 0, 1, 1, 1000)
            .grant("b", 2, 3, 2, 5)
            .grant("c", 20, 21, 3, 5);
        assert_eq!(two_holders(&script.history.grants()).len(), 2);
    }

    #[test]
    fn an_extension_lengthens_a_belief() {
        let script = Script::new();
        let expires_in = Duration::from_millis(50);
        let told = Told::Holds {
            token: 1,
            expires_in,
            waited: Duration::ZERO,
        };
        script
            .grant("a", 0, 1, 1, 10)
            .add(Kind::Extend, "a", 5, 6, told)
            .grant("b", 19, 20, 2, 9);
        assert_eq!(two_holders(&script.history.grants()).len(), 1);
    }

    #[test]
    fn a_token_for_two_is_seen() {
        let script = Script::new();
        script.grant("a", 0, 1, 1, 2).grant("b", 0, 5, 1, 2);
        assert_eq!(shared_tokens(&script.history.grants()).len(), 1);
    }

    #[test]
    fn a_token_that_went_back_is_seen_and_concurrent_ones_may_come_in_any_order() {
        let script = Script::new();
        script
            .grant("a", 0, 10, 7, 1)
            .grant("b", 5, 20, 6, 1)
            .grant("c", 11, 12, 5, 1);
        assert_eq!(tokens_not_upward(&script.history.grants()).len(), 1);
    }

    #[test]
    fn a_log_that_contradicts_time_is_seen() {
        let script = Script::new();
        script
            .grant("a", 0, 10, 1, 1)
            .grant("b", 5, 20, 2, 1)
            .grant("c", 11, 12, 3, 1);
        let mut records = script.history.records();
        for (record, index) in records.iter_mut().zip([7, 6, 8]) {
            record.log_index = Some(index);
        }
        assert!(
            log_against_time(&records).is_empty(),
            "concurrent ones may come in any order"
        );
        records[2].log_index = Some(7);
        assert_eq!(log_against_time(&records).len(), 1);
    }

    #[test]
    fn asking_again_under_the_same_uuid_is_one_grant() {
        let script = Script::new();
        script
            .grant("a", 0, 1, 1, 10)
            .grant("b", 20, 21, 2, 10)
            .grant("a", 2, 22, 1, 10);
        assert_eq!(script.history.grants().len(), 2);
        assert!(tokens_not_upward(&script.history.grants()).is_empty());
    }
}
