//! The names that callers give: identities, keys, holders. Each type holds only what is allowed.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::{HOLDER_BYTES_MAX, IDENTITY_BYTES_MAX, KEY_BYTES_MAX, LICENCE_NAME_BYTES_MAX};

/// Why a name was refused. The text says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// An identity id is 1 to 64 of `A-Z a-z 0-9 _ -`.
    #[error("an identity is 1 to {IDENTITY_BYTES_MAX} characters of A-Z, a-z, 0-9, '_' and '-'")]
    Identity,
    /// A key is 1 to 512 bytes of UTF-8 without control characters.
    #[error("must be 1 to {KEY_BYTES_MAX} bytes of UTF-8 without control characters")]
    Key,
    /// A holder's uuid is 1 to 128 visible ASCII characters.
    #[error("must be 1 to {HOLDER_BYTES_MAX} visible ASCII characters")]
    Holder,
    /// An idempotency key is 1 to 128 visible ASCII characters.
    #[error("must be 1 to {HOLDER_BYTES_MAX} visible ASCII characters")]
    IdempotencyKey,
    /// A licence's name is 1 to 128 bytes of UTF-8 without control characters.
    #[error("must be 1 to {LICENCE_NAME_BYTES_MAX} bytes of UTF-8 without control characters")]
    LicenceName,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $error:ident, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "Arc<str>", into = "Arc<str>")]
        pub struct $name(Arc<str>);

        /// By the text. Names that share it, as most that are compared do, are not read.
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                if Arc::ptr_eq(&self.0, &other.0) {
                    return Ordering::Equal;
                }
                self.0.cmp(&other.0)
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            /// Takes the text if it is allowed.
            pub fn new(text: &str) -> Result<Self, NameError> {
                Self::try_from(Arc::from(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<Arc<str>> for $name {
            type Error = NameError;

            fn try_from(text: Arc<str>) -> Result<Self, NameError> {
                let allowed: fn(&str) -> bool = $allowed;
                if allowed(&text) { Ok(Self(text)) } else { Err(NameError::$error) }
            }
        }

        impl From<$name> for Arc<str> {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn visible_ascii(text: &str) -> bool {
    (1..=HOLDER_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

name!(
    /// Whose locks these are: `[A-Za-z0-9_-]{1,64}`.
    IdentityId,
    Identity,
    |text| (1..=IDENTITY_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
);
name!(
    /// What is locked, within an identity: 1 to 512 bytes of UTF-8, no control characters.
    Key,
    Key,
    |text| (1..=KEY_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
);
name!(
    /// The caller's name for one acquisition (`uuid` in the API): 1 to 128 visible ASCII characters.
    Holder,
    Holder,
    visible_ascii
);
name!(
    /// The caller's name for one HTTP operation: 1 to 128 visible ASCII characters.
    IdempotencyKey,
    IdempotencyKey,
    visible_ascii
);
name!(
    /// What an operator calls a licence: 1 to 128 bytes of UTF-8, no control characters.
    LicenceName,
    LicenceName,
    |text| (1..=LICENCE_NAME_BYTES_MAX).contains(&text.len())
        && !text.chars().any(char::is_control)
);

/// What a lock is on: the pair, never a joined string, so that no choice of characters can make
/// two identities clash. Ordered by identity, then key, so that an identity's locks are one range.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Resource {
    /// Whose.
    pub identity: IdentityId,
    /// Which.
    pub key: Key,
}
