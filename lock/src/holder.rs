//! The caller's name for one acquisition.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

use crate::limits::HOLDER_BYTES_MAX;
use crate::names::{NameError, visible_ascii};

/// The caller's name for one acquisition (`uuid` in the API): 1 to 128 visible ASCII characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(Form);

/// Most are uuids, and there is one for each lease: 16 bytes where they lie, instead of 36 elsewhere.
/// A text has one form only, so that equal names are equal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Form {
    /// As RFC 9562 writes them (section 4): 36 characters, small letters.
    Uuid([u8; 16]),
    Text(Arc<str>),
}

/// Characters of a uuid.
const UUID_CHARS: usize = 36;

impl Holder {
    /// Takes the text if it is allowed.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if let Some(uuid) = parse(text.as_bytes()) {
            return Ok(Self(Form::Uuid(uuid)));
        }
        if visible_ascii(text) {
            return Ok(Self(Form::Text(text.into())));
        }
        Err(NameError::Holder)
    }

    /// A uuid, as it is written in small letters.
    pub fn uuid(bytes: [u8; 16]) -> Self {
        Self(Form::Uuid(bytes))
    }

    /// The name as text.
    pub fn text(&self) -> HolderText<'_> {
        match &self.0 {
            Form::Uuid(uuid) => HolderText(Shown::Uuid(format(uuid))),
            Form::Text(text) => HolderText(Shown::Text(text)),
        }
    }
}

/// A holder's name, as text, for as long as it is looked at.
pub struct HolderText<'a>(Shown<'a>);

enum Shown<'a> {
    Uuid([u8; UUID_CHARS]),
    Text(&'a str),
}

impl Deref for HolderText<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Shown::Uuid(text) => std::str::from_utf8(text).expect("hex digits and hyphens"),
            Shown::Text(text) => text,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Holder").field(&&*self.text()).finish()
    }
}

impl Serialize for Holder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for Holder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Holder;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "1 to {HOLDER_BYTES_MAX} visible ASCII characters")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Holder, E> {
                Holder::new(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Where the two digits of each byte begin; a hyphen is wherever none is.
const DIGITS_AT: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
const HYPHENS_AT: [usize; 4] = [8, 13, 18, 23];
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// What no digit stands for.
const NONE: u8 = 0xff;

/// What each character stands for as a digit.
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < DIGITS.len() {
        #[allow(clippy::cast_possible_truncation, reason = "below 16")]
        {
            values[DIGITS[value] as usize] = value as u8;
        }
        value += 1;
    }
    values
};

/// Only what [`format()`] writes: another way to write the same number is another name.
fn parse(text: &[u8]) -> Option<[u8; 16]> {
    let text: &[u8; UUID_CHARS] = text.try_into().ok()?;
    let mut uuid = [0; 16];
    let mut wrong = 0;
    for (byte, at) in uuid.iter_mut().zip(DIGITS_AT) {
        let [high, low] = [text[at], text[at + 1]].map(|digit| VALUES[usize::from(digit)]);
        *byte = high << 4 | low;
        // Digits are below 16, and nothing else is.
        wrong |= high | low;
    }
    let hyphens = HYPHENS_AT.iter().all(|at| text[*at] == b'-');
    (hyphens && wrong < 16).then_some(uuid)
}

fn format(uuid: &[u8; 16]) -> [u8; UUID_CHARS] {
    let mut text = [b'-'; UUID_CHARS];
    for (byte, at) in uuid.iter().zip(DIGITS_AT) {
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_uuid_takes_no_memory_of_its_own() {
        let holder = Holder::new("0192f0c1-2345-7abc-8def-0123456789ab").unwrap();
        assert!(matches!(holder.0, Form::Uuid(_)));
        assert_eq!(&*holder.text(), "0192f0c1-2345-7abc-8def-0123456789ab");
        assert_eq!(format!("{holder}"), &*holder.text());
        assert_eq!(
            format!("{holder:?}"),
            "Holder(\"0192f0c1-2345-7abc-8def-0123456789ab\")"
        );
    }

    #[test]
    fn what_is_nearly_a_uuid_stays_as_it_was_written() {
        for text in [
            "0192F0C1-2345-7abc-8def-0123456789ab",
            "0192f0c123457abc8def0123456789ab",
            "0192f0c1-2345-7abc-8def-0123456789ag",
            "0192f0c1-2345-7abc-8def_0123456789ab",
            "0192f0c1-2345-7abc-8def-0123456789abc",
        ] {
            let holder = Holder::new(text).unwrap();
            assert!(matches!(holder.0, Form::Text(_)), "{text}");
            assert_eq!(&*holder.text(), text);
        }
        for text in ["", "a b", "a\u{e9}", &"a".repeat(129)] {
            assert_eq!(Holder::new(text), Err(NameError::Holder));
        }
    }

    proptest! {
        #[test]
        fn every_uuid_is_told_as_it_was_given(bytes in any::<[u8; 16]>()) {
            let text = format(&bytes);
            let text = std::str::from_utf8(&text).unwrap();
            prop_assert_eq!(parse(text.as_bytes()), Some(bytes));
            prop_assert_eq!(Holder::new(text).unwrap(), Holder::uuid(bytes));
        }

        #[test]
        fn names_are_equal_as_their_texts_are(a in "[0-9a-f-]{36}", b in "[!-~]{1,40}") {
            let (one, other) = (Holder::new(&a).unwrap(), Holder::new(&b).unwrap());
            prop_assert_eq!(&*one.text(), a.as_str());
            prop_assert_eq!(&*other.text(), b.as_str());
            prop_assert_eq!(one == other, a == b);
        }
    }
}
