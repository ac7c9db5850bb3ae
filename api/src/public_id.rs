//! The public names of licences and API keys: numbers with a word before them, for lists and logs.

use evermind_lock::command::{KeyId, LicenceId};

/// As in `key_7`.
pub(crate) fn key_id(KeyId(number): KeyId) -> String {
    format!("key_{number}")
}

/// As in `lic_7`.
pub(crate) fn licence_id(LicenceId(number): LicenceId) -> String {
    format!("lic_{number}")
}

/// Reads what [`licence_id`] wrote.
pub(crate) fn licence_of(text: &str) -> Option<LicenceId> {
    number(text, "lic_").map(LicenceId)
}

/// Reads what [`key_id`] wrote.
pub(crate) fn key_of(text: &str) -> Option<KeyId> {
    number(text, "key_").map(KeyId)
}

fn number(text: &str, prefix: &str) -> Option<u64> {
    let digits = text.strip_prefix(prefix)?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| plain)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_licence_and_a_key_have_one_name_each() {
        assert_eq!(key_of(&key_id(KeyId(12))), Some(KeyId(12)));
        assert_eq!(key_of("lic_12"), None);
        assert_eq!(licence_of(&licence_id(LicenceId(7))), Some(LicenceId(7)));
        for wrong in [
            "",
            "7",
            "lic_",
            "lic_07",
            "lic_+7",
            "lic_-1",
            "lic_99999999999999999999",
        ] {
            assert_eq!(licence_of(wrong), None, "{wrong}");
        }
    }
}
