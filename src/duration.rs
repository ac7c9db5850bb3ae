//! Lengths of time as people write them.

use std::time::Duration;

/// Reads `1500ms`, `30s`, `10m`, `24h`, and `0`. A bare number is refused: the API counts
/// milliseconds and people mean seconds, and a lease a thousand times too short looks granted.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "" if text == "0" => 1,
        "" if !text.is_empty() => {
            return Err(format!("a time needs its unit: {text}s, or {text}ms"));
        }
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => {
            return Err(
                "a time is a whole number and ms, s, m or h, as in 1500ms, 30s, 10m".into(),
            );
        }
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "a time starts with a whole number, as in 30s")?;
    let ms = number.checked_mul(unit_ms).ok_or("this time is too long")?;
    Ok(Duration::from_millis(ms))
}

/// In whole milliseconds, as the API counts.
pub(crate) fn as_ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// For people: `850ms`, `12.3s`, `2m05s`, `1h00m`.
pub(crate) fn show(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{}m{:02}s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{}h{:02}m", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, ms) in [
            ("0", Some(0)),
            ("1500", None),
            ("1500ms", Some(1_500)),
            ("30s", Some(30_000)),
            ("10m", Some(600_000)),
            ("24h", Some(86_400_000)),
            ("", None),
            ("s", None),
            ("1.5s", None),
            ("-1", None),
            ("1d", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(parse(text).ok().map(as_ms), ms, "{text}");
        }
    }

    #[test]
    fn shows_what_people_read() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (12_345, "12.3s"),
            (125_000, "2m05s"),
            (3_660_000, "1h01m"),
        ] {
            assert_eq!(show(ms), text);
        }
    }
}
