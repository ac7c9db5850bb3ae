//! How grants, records and moments are told of.

use crate::grants::Grant;
use crate::history::{Moment, Record, Write};

/// In milliseconds since the history began.
pub(crate) fn at(moment: Moment) -> String {
    format!("at {}.{:06} ms", moment.0 / 1_000_000, moment.0 % 1_000_000)
}

pub(crate) fn grant(grant: &Grant<'_>) -> String {
    format!(
        "token {} of {:?} to {:?}, asked for {}, read {}, believed until {}",
        grant.token,
        grant.key,
        grant.uuid,
        at(grant.asked),
        at(grant.acked),
        at(grant.until).trim_start_matches("at "),
    )
}

pub(crate) fn record(record: &Record) -> String {
    format!(
        "client {} asked node {} of {:?} as {:?}: {:?}, sent {}, {:?} {}{}",
        record.client,
        record.node,
        record.key,
        record.uuid,
        record.ask,
        at(record.invoked),
        record.told,
        at(record.returned),
        record
            .log_index
            .map_or_else(String::new, |index| format!(", entry {index}")),
    )
}

pub(crate) fn write(write: &Write) -> String {
    let done = if write.accepted { "taken" } else { "refused" };
    format!(
        "a write under token {} of {:?} by {:?}, {done} {}",
        write.token,
        write.key,
        write.uuid,
        at(write.at)
    )
}
