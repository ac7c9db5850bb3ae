//! How the scripts print what the table says.

use evermind_lock::licence::LicenceView;
use evermind_lock::outcome::{Decision, Outcome, Refusal};

pub(crate) fn shown(licence: &LicenceView) -> String {
    let usage = &licence.usage;
    let limit = licence
        .limit
        .map_or("no limit".to_owned(), |limit| format!("of {limit}"));
    let past: Vec<_> = usage.past.iter().map(|past| past.used).collect();
    format!(
        "{} for {}: {:?}, used {} {limit} since {}, before {past:?}, {} keys",
        licence.name,
        licence.identity,
        licence.standing,
        usage.used,
        usage.start_ms,
        licence.api_keys
    )
}

pub(crate) fn decided(log_index: u64, decision: &Decision) -> String {
    let said = said(&decision.outcome);
    if decision.log_index == log_index {
        said
    } else {
        format!("{said} (in #{})", decision.log_index)
    }
}

pub(crate) fn said(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Granted(granted) => format!(
            "granted to {}, token {}, {} ms left, waited {} ms, attempts {}",
            granted.holder,
            granted.fencing_token,
            granted.expires_in_ms,
            granted.waited_ms,
            granted.attempts
        ),
        Outcome::Extended {
            fencing_token,
            expires_in_ms,
        } => format!("extended, token {fencing_token}, {expires_in_ms} ms left"),
        Outcome::Refused(Refusal::LockHeld {
            reason,
            attempts,
            current,
        }) => {
            let current = current.map_or("free".to_owned(), |current| {
                format!(
                    "token {}, {} ms left, {} waiting",
                    current.fencing_token, current.expires_in_ms, current.waiting
                )
            });
            format!("refused: {reason:?}, attempts {attempts}, {current}")
        }
        Outcome::Refused(refusal) => format!("refused: {refusal:?}"),
        other => format!("{other:?}").to_lowercase(),
    }
}
