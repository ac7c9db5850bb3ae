//! Calendar months in UTC, by counting days.

const DAY_MS: u64 = 86_400_000;

const fn is_leap(year: u64) -> bool {
    (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
}

const fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// When the month that a moment is in begins, and when the next does, in ms since 1970.
pub(super) fn month(wall_ms: u64) -> (u64, u64) {
    let day = wall_ms / DAY_MS;
    // 400 years have 146,097 days; a licence is not older than some centuries.
    let mut year = 1970;
    let mut start = 0;
    loop {
        let days = if is_leap(year) { 366 } else { 365 };
        if start + days > day {
            break;
        }
        start += days;
        year += 1;
    }
    let mut month = 1;
    while start + days_in(year, month) <= day {
        start += days_in(year, month);
        month += 1;
    }
    (start * DAY_MS, (start + days_in(year, month)) * DAY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leap_day_belongs_to_its_february() {
        // 2024-02-29T23:59:59.999Z
        let last = 1_709_251_199_999;
        assert_eq!(month(last), (1_706_745_600_000, last + 1));
        assert_eq!(month(last + 1).0, last + 1);
        assert_eq!(month(0), (0, 31 * DAY_MS));
    }
}
