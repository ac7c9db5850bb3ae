//! The names that callers give: identities, keys, holders. Each type holds only what is allowed.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

pub use crate::holder::{Holder, HolderText};
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

/// Text that clones share.
trait Shared: Clone {
    fn share(text: Arc<str>) -> Self;
    fn text(&self) -> &str;
    fn is(&self, other: &Self) -> bool;
}

impl Shared for Arc<str> {
    fn share(text: Arc<str>) -> Self {
        text
    }

    fn text(&self) -> &str {
        self
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(self, other)
    }
}

/// Half as wide, for what each lease refers to and few texts are.
impl Shared for Arc<Box<str>> {
    fn share(text: Arc<str>) -> Self {
        Arc::new(Box::from(&*text))
    }

    fn text(&self) -> &str {
        self
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(self, other)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident($shared:ty), $error:ident, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
        #[serde(try_from = "Arc<str>")]
        pub struct $name($shared);

        /// By the text. Names that share it, as most that are compared do, are not read.
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                if self.0.is(&other.0) {
                    return Ordering::Equal;
                }
                self.0.text().cmp(other.0.text())
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
                self.0.text()
            }
        }

        impl TryFrom<Arc<str>> for $name {
            type Error = NameError;

            fn try_from(text: Arc<str>) -> Result<Self, NameError> {
                let allowed: fn(&str) -> bool = $allowed;
                if allowed(&text) { Ok(Self(Shared::share(text))) } else { Err(NameError::$error) }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) fn visible_ascii(text: &str) -> bool {
    (1..=HOLDER_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

name!(
    /// Whose locks these are: `[A-Za-z0-9_-]{1,64}`.
    IdentityId(Arc<Box<str>>),
    Identity,
    |text| (1..=IDENTITY_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
);
name!(
    /// What is locked, within an identity: 1 to 512 bytes of UTF-8, no control characters.
    Key(Arc<str>),
    Key,
    |text| (1..=KEY_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
);
name!(
    /// The caller's name for one HTTP operation: 1 to 128 visible ASCII characters.
    IdempotencyKey(Arc<str>),
    IdempotencyKey,
    visible_ascii
);
name!(
    /// What an operator calls a licence: 1 to 128 bytes of UTF-8, no control characters.
    LicenceName(Arc<str>),
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
