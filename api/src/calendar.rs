//! Dates as people and JSON write them: RFC 3339, in UTC.

use jiff::civil::Date;
use jiff::{Timestamp, tz::Offset};

/// What [`read`] takes.
pub(crate) const DATE_FORMS: &str =
    "a date (2027-01-31, from its first moment in UTC on) or a moment (2027-01-31T12:00:00Z)";

/// Wall-clock ms since 1970.
pub(crate) fn read(text: &str) -> Option<u64> {
    let moment = if text.len() == "2027-01-31".len() {
        let date: Date = text.parse().ok()?;
        Offset::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()?
    } else {
        text.parse::<Timestamp>().ok()?
    };
    u64::try_from(moment.as_millisecond()).ok()
}

/// As in `2027-01-31T00:00:00Z`; `None` past every calendar.
pub(crate) fn write(wall_ms: u64) -> Option<String> {
    let moment = Timestamp::from_millisecond(i64::try_from(wall_ms).ok()?).ok()?;
    Some(moment.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn dates_and_moments() {
        assert_eq!(read("1970-01-02"), Some(86_400_000));
        assert_eq!(read("1970-01-02T00:00:00.5+01:00"), Some(82_800_500));
        for wrong in [
            "",
            "tomorrow",
            "2027-02-30",
            "2027-1-1",
            "1969-12-31",
            "2027-01-31T12:00",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(write(86_400_500).unwrap(), "1970-01-02T00:00:00.5Z");
        assert_eq!(write(u64::MAX), None);
    }
}
