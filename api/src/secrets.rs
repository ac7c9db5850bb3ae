//! The text of API keys and licence keys: made once, shown once, known from then on by their hash.
//!
//! `evk_` or `evl_`, then 58 lower-case base32 digits (RFC 4648): 256 random bits and their CRC-32,
//! taken over the prefix too. The check tells a mistyped or cut key from a wrong one without looking
//! it up; it says nothing about who may use the key.

use std::fmt;

use data_encoding::{Encoding, Specification};
use evermind_lock::command::KeyHash;
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

/// Random bytes in a key.
const RANDOM_BYTES: usize = 32;
/// Base32 digits of 36 bytes.
const DIGITS: usize = 58;
/// Random bytes in an identity that nobody chose: 80 bits.
const IDENTITY_BYTES: usize = 10;

static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut base32 = Specification::new();
    base32.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    base32.encoding().expect("32 symbols make an encoding")
});

/// Which secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// Opens the locks of an identity.
    ApiKey,
    /// Makes and deletes API keys.
    LicenceKey,
}

impl SecretKind {
    fn prefix(self) -> &'static str {
        match self {
            SecretKind::ApiKey => "evk_",
            SecretKind::LicenceKey => "evl_",
        }
    }

    /// How people call it.
    fn name(self) -> &'static str {
        match self {
            SecretKind::ApiKey => "API key",
            SecretKind::LicenceKey => "licence key",
        }
    }

    /// Why a text that has the look of such a key cannot be one; `None` if it may be: an operator
    /// may have chosen an API key of another make.
    pub fn fault(self, text: &str) -> Option<String> {
        let name = self.name();
        let other = match self {
            SecretKind::ApiKey => SecretKind::LicenceKey,
            SecretKind::LicenceKey => SecretKind::ApiKey,
        };
        if other.is_sound(text) {
            return Some(format!(
                "this is {} {}, where {} {name} is wanted",
                other.article(),
                other.name(),
                self.article()
            ));
        }
        let digits = text.strip_prefix(self.prefix())?;
        (digits.len() == DIGITS && !self.is_sound(text)).then(|| {
            format!(
                "the {name} is mistyped: its last characters do not fit the others; copy it again"
            )
        })
    }

    /// What more can be said of a key that nobody knows.
    pub(crate) fn advice(self, text: &str) -> &'static str {
        let cut = text
            .strip_prefix(self.prefix())
            .is_some_and(|digits| digits.len() < DIGITS);
        if cut { "; is it all there?" } else { "" }
    }

    fn article(self) -> &'static str {
        match self {
            SecretKind::ApiKey => "an",
            SecretKind::LicenceKey => "a",
        }
    }

    /// Whether the check fits.
    fn is_sound(self, text: &str) -> bool {
        let bytes = text
            .strip_prefix(self.prefix())
            .and_then(|digits| BASE32.decode(digits.as_bytes()).ok());
        let Some(bytes) = bytes.filter(|bytes| bytes.len() == RANDOM_BYTES + 4) else {
            return false;
        };
        let (random, check) = bytes.split_at(RANDOM_BYTES);
        check == self.check(random)
    }

    fn check(self, random: &[u8]) -> [u8; 4] {
        let mut crc = crc32fast::Hasher::new();
        crc.update(self.prefix().as_bytes());
        crc.update(random);
        crc.finalize().to_be_bytes()
    }
}

/// A key in clear. Not `Debug`, so that no log can have it by accident.
pub struct Secret(String);

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// If the kernel gives no random bits.
    pub fn new(kind: SecretKind) -> Result<Self, getrandom::Error> {
        let mut bytes = vec![0; RANDOM_BYTES];
        getrandom::fill(&mut bytes)?;
        let check = kind.check(&bytes);
        bytes.extend_from_slice(&check);
        Ok(Self(format!("{}{}", kind.prefix(), BASE32.encode(&bytes))))
    }

    /// To be shown once.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// As it is kept and looked up.
    pub fn hash(&self) -> KeyHash {
        hash(self.0.as_bytes())
    }
}

/// As keys are kept and looked up.
pub fn hash(text: &[u8]) -> KeyHash {
    KeyHash(Sha256::digest(text).into())
}

/// An identity for a licence that was given none: no two meet by chance.
pub(crate) fn new_identity() -> Result<String, getrandom::Error> {
    let mut bytes = [0; IDENTITY_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(format!("id-{}", BASE32.encode(&bytes)))
}

/// What an operator proves to the admin routes that it knows. Kept as its hash.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(KeyHash);

/// Characters in an admin token at least: 128 bits, were each a hexadecimal digit.
const ADMIN_TOKEN_CHARS_MIN: usize = 32;
/// Different characters in an admin token at least: no `aaaa…`.
const ADMIN_TOKEN_SYMBOLS_MIN: usize = 8;

/// Why a text is no admin token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeakToken;

impl fmt::Display for WeakToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an admin token is {ADMIN_TOKEN_CHARS_MIN} to 256 visible ASCII characters, at least {ADMIN_TOKEN_SYMBOLS_MIN} of them different: 128 random bits or more"
        )
    }
}

impl AdminToken {
    /// Takes a token that is long enough to be 128 random bits.
    ///
    /// # Errors
    /// If it is too short, or cannot be random.
    pub fn new(text: &str) -> Result<Self, WeakToken> {
        let mut symbols: Vec<u8> = text.bytes().collect();
        symbols.sort_unstable();
        symbols.dedup();
        let allowed = (ADMIN_TOKEN_CHARS_MIN..=256).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic())
            && symbols.len() >= ADMIN_TOKEN_SYMBOLS_MIN;
        allowed
            .then(|| Self(hash(text.as_bytes())))
            .ok_or(WeakToken)
    }

    /// Compares hashes: how long it takes says nothing about the token.
    pub(crate) fn is(&self, text: &[u8]) -> bool {
        hash(text) == self.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_sound_and_like_no_other() {
        for kind in [SecretKind::ApiKey, SecretKind::LicenceKey] {
            let (first, second) = (Secret::new(kind).unwrap(), Secret::new(kind).unwrap());
            assert_ne!(first.text(), second.text());
            assert_eq!(first.text().len(), 4 + DIGITS);
            assert!(kind.is_sound(first.text()));
            assert_eq!(kind.fault(first.text()), None);
        }
    }

    #[test]
    fn every_mistyped_character_is_told() {
        let key = Secret::new(SecretKind::ApiKey).unwrap();
        for at in 4..key.text().len() {
            let mut typed = key.text().as_bytes().to_vec();
            for byte in *b"abcdefghijklmnopqrstuvwxyz234567A0-" {
                if typed[at] == byte {
                    continue;
                }
                let was = std::mem::replace(&mut typed[at], byte);
                let text = String::from_utf8(typed.clone()).unwrap();
                let fault = SecretKind::ApiKey.fault(&text).unwrap();
                assert!(fault.contains("mistyped"), "{text}");
                typed[at] = was;
            }
        }
    }

    #[test]
    fn two_characters_that_changed_places_are_told() {
        let key = Secret::new(SecretKind::LicenceKey).unwrap();
        for at in 4..key.text().len() - 1 {
            let mut typed = key.text().as_bytes().to_vec();
            typed.swap(at, at + 1);
            let text = String::from_utf8(typed).unwrap();
            let changed = text != key.text();
            assert_eq!(SecretKind::LicenceKey.fault(&text).is_some(), changed);
        }
    }

    #[test]
    fn one_kind_is_no_other() {
        let licence = Secret::new(SecretKind::LicenceKey).unwrap();
        let fault = SecretKind::ApiKey.fault(licence.text()).unwrap();
        assert_eq!(fault, "this is a licence key, where an API key is wanted");
    }

    #[test]
    fn an_operators_own_key_is_left_alone() {
        let hex = format!("evk_{}", "0123456789abcdef".repeat(4));
        for own in ["sixteen-chars-ok", hex.as_str()] {
            assert_eq!(SecretKind::ApiKey.fault(own), None);
        }
    }

    #[test]
    fn a_short_or_simple_admin_token_is_refused() {
        for weak in ["", "0123456789abcdef0123456789abcde", &"ab".repeat(40)] {
            assert!(AdminToken::new(weak).is_err(), "{weak}");
        }
        let token = AdminToken::new("0123456789abcdef0123456789abcdef").unwrap();
        assert!(token.is(b"0123456789abcdef0123456789abcdef"));
        assert!(!token.is(b"0123456789abcdef0123456789abcdee"));
    }
}
