//! How often somebody may ask, as people write it.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::Deserialize;

/// Requests a second, written `100/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct RateLimit(pub(crate) NonZeroU32);

/// Faster than any node serves: more is a slip of the finger.
const PER_SECOND_MAX: u32 = 1_000_000;

impl FromStr for RateLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_suffix("/s").filter(|digits| {
            !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
        digits
            .and_then(|digits| digits.parse().ok())
            .filter(|per_second: &NonZeroU32| per_second.get() <= PER_SECOND_MAX)
            .map(Self)
            .ok_or_else(|| {
                format!(
                    "a rate is a whole number of requests a second, 1/s to {PER_SECOND_MAX}/s, as in 100/s; leave it out for no limit"
                )
            })
    }
}

impl TryFrom<String> for RateLimit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_whole_number_a_second() {
        for text in ["1/s", "100/s", "1000000/s"] {
            assert_eq!(text.parse::<RateLimit>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "/s",
            "100",
            "0/s",
            "007/s",
            "+1/s",
            "-1/s",
            "1.5/s",
            "100/m",
            "100 /s",
            "100/s ",
            "1000001/s",
            "99999999999/s",
        ] {
            let why = wrong.parse::<RateLimit>().unwrap_err();
            assert!(why.contains("as in 100/s"), "{wrong}: {why}");
        }
    }
}
