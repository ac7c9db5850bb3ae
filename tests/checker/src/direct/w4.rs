//! W4, as answers show it: no lease has more left than its acquire and its extensions asked for,
//! each operation counted once.

use std::collections::HashMap;

use super::account;
use crate::grants::{Grant, told_of_hold};
use crate::history::{Ask, Moment, Record, Told};
use crate::verdict::{Check, Violation};

/// One operation: a lock, a uuid, and its Idempotency-Key or else the place of its one record.
type Extension<'a> = (&'a str, &'a str, Result<&'a str, usize>);

/// What one uuid asked for.
#[derive(Default)]
struct Asked {
    /// The longest lease; nothing where no acquire was recorded.
    lease_ms: Option<u64>,
    /// Extensions that may have been made: when first sent, and by how much.
    extensions: Vec<(Moment, u64)>,
}

impl Asked {
    /// The most that can be left in an answer read at `moment`.
    fn most_ms(&self, moment: Moment) -> Option<u64> {
        // Each `extensions` holds the sum up to it.
        let sent = self.extensions.partition_point(|(sent, _)| *sent <= moment);
        let extended_ms = sent.checked_sub(1).map_or(0, |at| self.extensions[at].1);
        Some(self.lease_ms?.saturating_add(extended_ms))
    }
}

pub(super) fn check(grants: &[Grant<'_>], records: &[Record]) -> Vec<Violation> {
    let asked = asked(records);
    let holders: HashMap<(&str, u64), &str> =
        grants.iter().map(|g| ((g.key, g.token), g.uuid)).collect();
    let mut violations = Vec::new();
    for record in records {
        let (uuid, left_ms) = match (&record.told, told_of_hold(&record.told)) {
            (Told::Granted { expires_in_ms, .. }, _) => (record.uuid.as_str(), *expires_in_ms),
            (_, Some((_, left_ms))) => (record.uuid.as_str(), left_ms),
            (
                Told::Held {
                    token,
                    expires_in_ms,
                    ..
                },
                _,
            ) => match holders.get(&(record.key.as_str(), *token)) {
                Some(uuid) => (*uuid, *expires_in_ms),
                None => continue,
            },
            _ => continue,
        };
        let most_ms = asked
            .get(&(record.key.as_str(), uuid))
            .and_then(|asked| asked.most_ms(record.returned));
        if let Some(most_ms) = most_ms.filter(|most_ms| left_ms > *most_ms) {
            let what = format!(
                "more is left than the {most_ms} ms that {uuid:?} asked for in all: {}",
                account::record(record)
            );
            violations.push(Violation::new(Check::W4, what));
        }
    }
    violations
}

fn asked(records: &[Record]) -> HashMap<(&str, &str), Asked> {
    let mut asked: HashMap<(&str, &str), Asked> = HashMap::new();
    let mut extensions: HashMap<Extension<'_>, (Moment, u64)> = HashMap::new();
    for (number, record) in records.iter().enumerate() {
        let (key, uuid) = (record.key.as_str(), record.uuid.as_str());
        match record.ask {
            Ask::Acquire { lease_ms, .. } => {
                let longest = &mut asked.entry((key, uuid)).or_default().lease_ms;
                *longest = (*longest).max(Some(lease_ms));
            }
            Ask::Extend { extend_by_ms } if may_have_extended(&record.told) => {
                let name = record.idempotency.as_deref().ok_or(number);
                let first = extensions
                    .entry((key, uuid, name))
                    .or_insert((record.invoked, extend_by_ms));
                first.0 = first.0.min(record.invoked);
                first.1 = first.1.max(extend_by_ms);
            }
            _ => {}
        }
    }
    for ((key, uuid, _), extension) in extensions {
        let of_uuid = asked.entry((key, uuid)).or_default();
        of_uuid.extensions.push(extension);
    }
    for of_uuid in asked.values_mut() {
        of_uuid.extensions.sort_unstable();
        let mut sum_ms: u64 = 0;
        for (_, by_ms) in &mut of_uuid.extensions {
            sum_ms = sum_ms.saturating_add(*by_ms);
            *by_ms = sum_ms;
        }
    }
    asked
}

fn may_have_extended(told: &Told) -> bool {
    match told {
        Told::Extended { .. } | Told::Unknown => true,
        // Of a repetition: the first may have been carried out.
        Told::Refused { code, .. } => code == "grant_ended",
        _ => false,
    }
}
