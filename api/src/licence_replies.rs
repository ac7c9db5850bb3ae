//! The bodies of answers about licences.

use std::time::SystemTime;

use evermind_lock::licence::{ApiKeyView, LicenceView, Period, Standing, Usage};
use serde::Serialize;

use crate::calendar;
use crate::public_id::{key_id, licence_id};

/// A forecast made of less than this would be mostly chance.
const FORECAST_FROM_MS: u64 = 3_600_000;

/// A licence just issued: the only answer that has its key.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewLicenceReply<'a> {
    pub(crate) id: String,
    pub(crate) identity: &'a str,
    pub(crate) licence_key: &'a str,
}

#[derive(Serialize)]
pub(crate) struct LicencesReply<'a> {
    pub(crate) licences: Vec<LicenceReply<'a>>,
    pub(crate) cursor: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LicenceReply<'a> {
    id: String,
    name: &'a str,
    identity: &'a str,
    status: &'static str,
    built_in: bool,
    limit: Option<u64>,
    period: &'static str,
    used: u64,
    period_start: Option<String>,
    created: Option<String>,
    expires: Option<String>,
    revoked: Option<String>,
    api_keys: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<KeyReply>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyReply {
    id: String,
    created: Option<String>,
    last_used: Option<String>,
}

impl<'a> LicenceReply<'a> {
    pub(crate) fn new(view: &'a LicenceView, keys: Option<&[ApiKeyView]>) -> Self {
        let key = |key: &ApiKeyView| KeyReply {
            id: key_id(key.id),
            created: calendar::write(key.created_ms),
            last_used: key.used_ms.and_then(calendar::write),
        };
        Self {
            id: licence_id(view.id),
            name: view.name.as_str(),
            identity: view.identity.as_str(),
            status: match view.standing {
                Standing::Active => "active",
                Standing::Expired => "expired",
                Standing::Revoked => "revoked",
            },
            built_in: view.is_built_in,
            limit: view.limit,
            period: match view.period {
                Period::Month => "month",
                Period::None => "none",
            },
            used: view.usage.used,
            period_start: calendar::write(view.usage.start_ms),
            created: calendar::write(view.created_ms),
            expires: view.expires_ms.and_then(calendar::write),
            revoked: view.revoked_ms.and_then(calendar::write),
            api_keys: view.api_keys,
            keys: keys.map(|keys| keys.iter().map(key).collect()),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UsageReply {
    used: u64,
    limit: Option<u64>,
    period_start: Option<String>,
    period_end: Option<String>,
    forecast: Option<u64>,
    previous: Vec<PreviousReply>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PreviousReply {
    period_start: Option<String>,
    used: u64,
}

impl UsageReply {
    pub(crate) fn new(view: &LicenceView) -> Self {
        let usage = &view.usage;
        let previous = usage.past.iter().map(|past| PreviousReply {
            period_start: calendar::write(past.start_ms),
            used: past.used,
        });
        Self {
            used: usage.used,
            limit: view.limit,
            period_start: calendar::write(usage.start_ms),
            period_end: usage.end_ms.and_then(calendar::write),
            forecast: forecast(usage, view.created_ms, view.wall_ms),
            previous: previous.collect(),
        }
    }
}

/// What will have been used at the period's end if it goes on as since its start, or since the
/// licence was created in it; `None` for a period without an end.
fn forecast(usage: &Usage, created_ms: u64, now_ms: u64) -> Option<u64> {
    let end_ms = usage.end_ms?;
    let since_ms = usage.start_ms.max(created_ms);
    let passed_ms = now_ms.saturating_sub(since_ms).max(FORECAST_FROM_MS);
    let left_ms = end_ms.saturating_sub(now_ms);
    let more = u128::from(usage.used) * u128::from(left_ms) / u128::from(passed_ms);
    Some(
        usage
            .used
            .saturating_add(u64::try_from(more).unwrap_or(u64::MAX)),
    )
}

/// Whether a wall-clock moment is not after `now`.
pub(crate) fn is_past(wall_ms: u64, now: SystemTime) -> bool {
    now.duration_since(SystemTime::UNIX_EPOCH)
        .is_ok_and(|since| since.as_millis() >= u128::from(wall_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    #[test]
    fn a_forecast_goes_on_as_before() {
        let usage = Usage {
            start_ms: 0,
            end_ms: Some(30 * DAY_MS),
            used: 100,
            past: Vec::new(),
        };
        assert_eq!(forecast(&usage, 0, 10 * DAY_MS), Some(300));
        // Made on the fifth day: a hundred in five days.
        assert_eq!(forecast(&usage, 5 * DAY_MS, 10 * DAY_MS), Some(500));
        // A second after its start nothing is known: as if an hour had passed.
        assert_eq!(forecast(&usage, 0, 1_000), Some(100 + 100 * 30 * 24 - 1));
        assert_eq!(forecast(&usage, 0, 31 * DAY_MS), Some(100));
        let endless = Usage {
            end_ms: None,
            ..usage
        };
        assert_eq!(forecast(&endless, 0, DAY_MS), None);
    }
}
