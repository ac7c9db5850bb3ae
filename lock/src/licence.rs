//! Who may ask, and what it costs: licences, their API keys, and usage by period.
//!
//! Calendar matters go by the wall clock that the leader puts on each entry, and by nothing else.

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _, tz::Offset};
use serde::{Deserialize, Serialize};

use crate::command::{KeyHash, KeyId, LicenceId};
use crate::limits::{API_KEYS_PER_LICENCE_MAX, DELETED_KEYS_REMEMBERED, PAST_PERIODS_MAX};
use crate::names::{IdentityId, LicenceName};

/// How long an allowance lasts before it begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Period {
    /// For ever: what is spent is spent.
    #[default]
    None,
    /// A calendar month in UTC.
    Month,
}

/// Whether a licence's keys are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// They are.
    Active,
    /// Its date has passed. For good: the wall clock of the log never goes back.
    Expired,
    /// The operator took it back. For good.
    Revoked,
}

impl Standing {
    /// Whether keys of such a licence are taken.
    pub fn is_active(self) -> bool {
        self == Standing::Active
    }
}

/// A period that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastPeriod {
    /// When it began, in wall-clock ms since 1970.
    pub start_ms: u64,
    /// Attempts charged in it.
    pub used: u64,
}

/// Attempts charged to a licence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// When the current period began, in wall-clock ms since 1970.
    pub start_ms: u64,
    /// When it ends; `None` for a period without an end.
    pub end_ms: Option<u64>,
    /// Attempts charged since `start_ms`.
    pub used: u64,
    /// The periods before in which anything was charged, oldest first, the newest
    /// [`PAST_PERIODS_MAX`] of them.
    pub past: Vec<PastPeriod>,
}

impl Usage {
    /// Nothing charged yet, in the period that `wall_ms` is in.
    pub(crate) fn new(period: Period, wall_ms: u64) -> Self {
        let (start_ms, end_ms) = match period {
            Period::None => (wall_ms, None),
            Period::Month => month(wall_ms),
        };
        Self {
            start_ms,
            end_ms,
            used: 0,
            past: Vec::new(),
        }
    }

    /// Whether `wall_ms` is in a later period. Periods never go back.
    pub(crate) fn is_over(&self, wall_ms: u64) -> bool {
        self.end_ms.is_some_and(|end_ms| end_ms <= wall_ms)
    }

    /// As it is at `wall_ms`, whether or not anything was charged since its period ended.
    pub(crate) fn at(&self, wall_ms: u64) -> Self {
        let mut usage = self.clone();
        usage.advance(wall_ms);
        usage
    }

    /// Begins the period that `wall_ms` is in, if it is a later one.
    fn advance(&mut self, wall_ms: u64) {
        if !self.is_over(wall_ms) {
            return;
        }
        if self.used > 0 {
            if self.past.len() >= PAST_PERIODS_MAX {
                self.past.remove(0);
            }
            self.past.push(PastPeriod {
                start_ms: self.start_ms,
                used: self.used,
            });
        }
        self.used = 0;
        let (start_ms, end_ms) = month(wall_ms);
        self.start_ms = start_ms;
        self.end_ms = end_ms;
    }

    pub(crate) fn charge(&mut self, wall_ms: u64, attempts: u64) {
        self.advance(wall_ms);
        self.used = self.used.saturating_add(attempts);
    }
}

/// The calendar month in UTC around a moment: its first ms, and the first of the next. A moment that
/// no calendar reaches (past the year 9999) has no next month.
fn month(wall_ms: u64) -> (u64, Option<u64>) {
    let start = || -> Option<Date> {
        let moment = Timestamp::from_millisecond(i64::try_from(wall_ms).ok()?).ok()?;
        Some(Offset::UTC.to_datetime(moment).date().first_of_month())
    };
    let ms = |date: Date| -> Option<u64> {
        let midnight = Offset::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()?;
        u64::try_from(midnight.as_millisecond()).ok()
    };
    let Some(first) = start() else {
        return (wall_ms, None);
    };
    let next = first.checked_add(1.month()).ok().and_then(ms);
    (ms(first).unwrap_or(wall_ms), next)
}

/// A key that was deleted, kept for a while so that deleting it again is no failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeletedKey {
    pub(crate) id: KeyId,
    pub(crate) hash: KeyHash,
}

/// What an operator issued to a team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Licence {
    pub(crate) name: LicenceName,
    /// Whose locks its API keys open. Several licences may share one.
    pub(crate) identity: IdentityId,
    /// The SHA-256 of the licence key. `None`: the built-in licence of an identity, whose API keys
    /// come from the operator's configuration.
    pub(crate) key: Option<KeyHash>,
    /// Attempts in one period; `None` is unlimited.
    pub(crate) limit: Option<u64>,
    pub(crate) period: Period,
    /// From this wall-clock ms on it is expired.
    pub(crate) expires_ms: Option<u64>,
    /// When it was created, in wall-clock ms.
    pub(crate) created_ms: u64,
    /// When it was revoked, in wall-clock ms.
    pub(crate) revoked_ms: Option<u64>,
    pub(crate) usage: Usage,
    /// The newest [`DELETED_KEYS_REMEMBERED`], or [`API_KEYS_PER_LICENCE_MAX`] of a built-in licence,
    /// oldest first.
    pub(crate) deleted: Vec<DeletedKey>,
}

impl Licence {
    pub(crate) fn standing(&self, wall_ms: u64) -> Standing {
        if self.revoked_ms.is_some() {
            Standing::Revoked
        } else if self.expires_ms.is_some_and(|ms| ms <= wall_ms) {
            Standing::Expired
        } else {
            Standing::Active
        }
    }

    /// Whether one more attempt may begin.
    pub(crate) fn has_allowance(&self, wall_ms: u64) -> bool {
        self.limit.is_none_or(|limit| {
            limit > 0 && (self.usage.used < limit || self.usage.is_over(wall_ms))
        })
    }

    /// Returns the one that is forgotten for it, if there were too many.
    pub(crate) fn remember_deleted(&mut self, id: KeyId, hash: KeyHash) -> Option<KeyHash> {
        // Configuration may go on naming the operator's own for long.
        let max = match self.key {
            None => API_KEYS_PER_LICENCE_MAX,
            Some(_) => DELETED_KEYS_REMEMBERED,
        };
        let full = self.deleted.len() >= max;
        let forgotten = full.then(|| self.deleted.remove(0).hash);
        self.deleted.push(DeletedKey { id, hash });
        forgotten
    }
}

/// An API key, as it is replicated: never the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    pub(crate) id: KeyId,
    pub(crate) licence: LicenceId,
    /// In wall-clock ms.
    pub(crate) created_ms: u64,
    /// When an operation last came with it, in wall-clock ms, to about
    /// [`crate::limits::LAST_USE_EVERY_MS`].
    pub(crate) used_ms: Option<u64>,
}

/// A licence, as its operator may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LicenceView {
    /// Its public number.
    pub id: LicenceId,
    /// As its operator called it.
    pub name: LicenceName,
    /// Whose locks its keys open.
    pub identity: IdentityId,
    /// Attempts in one period; `None` is unlimited.
    pub limit: Option<u64>,
    /// How long a period is.
    pub period: Period,
    /// From this wall-clock ms on it is expired.
    pub expires_ms: Option<u64>,
    /// In wall-clock ms.
    pub created_ms: u64,
    /// In wall-clock ms.
    pub revoked_ms: Option<u64>,
    /// Now.
    pub standing: Standing,
    /// Whether its API keys come from the operator's configuration.
    pub is_built_in: bool,
    /// Now.
    pub usage: Usage,
    /// When this was looked at, in wall-clock ms since 1970.
    pub wall_ms: u64,
    /// How many API keys it has.
    pub api_keys: usize,
}

/// An API key, as its licence's operator may see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiKeyView {
    /// Its public number.
    pub id: KeyId,
    /// In wall-clock ms.
    pub created_ms: u64,
    /// In wall-clock ms, to about a minute; `None`: not used yet.
    pub used_ms: Option<u64>,
}

/// Whose API key a hash is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundKey {
    /// Its public number.
    pub id: KeyId,
    /// Which licence it is of; a built-in one for the operator's own keys.
    pub licence: LicenceId,
    /// Whose locks it opens.
    pub identity: IdentityId,
    /// Of its licence.
    pub standing: Standing,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    #[test]
    fn a_month_is_a_calendar_month_in_utc() {
        // 2024-02-29T23:59:59.999Z
        let last = 1_709_251_199_999;
        let (start, end) = month(last);
        assert_eq!(start, 1_706_745_600_000, "2024-02-01");
        assert_eq!(end, Some(last + 1), "2024-03-01");
        assert_eq!(month(last + 1).0, last + 1);
        assert_eq!(month(0), (0, Some(31 * DAY_MS)));
        assert_eq!(month(u64::MAX), (u64::MAX, None));
    }

    #[test]
    fn what_is_charged_belongs_to_the_period_of_its_entry() {
        let mut usage = Usage::new(Period::Month, 5 * DAY_MS);
        usage.charge(6 * DAY_MS, 3);
        usage.charge(40 * DAY_MS, 2);
        assert_eq!((usage.used, usage.start_ms), (2, 31 * DAY_MS));
        // A clock that went back changes nothing: periods never do.
        usage.charge(6 * DAY_MS, 1);
        assert_eq!(usage.used, 3);
        assert_eq!(
            usage.past,
            [PastPeriod {
                start_ms: 0,
                used: 3
            }]
        );
    }

    #[test]
    fn past_periods_are_bounded() {
        let mut usage = Usage::new(Period::Month, 0);
        for month in 0..100 {
            usage.charge(month * 31 * DAY_MS, month);
        }
        assert_eq!(usage.past.len(), PAST_PERIODS_MAX);
    }
}
