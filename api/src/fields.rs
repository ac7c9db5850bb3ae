//! The strict reading of a JSON object: known fields, each once, each of its one type.
//!
//! Values stay raw text until their field is read. So a number such as `1e400` or an array nested
//! a hundred thousand deep is the fault of one named field, costs no stack, and does not hide a
//! `softFail` beside it.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::problem::Problem;

/// Characters of a caller's own text that are repeated in a message.
const ECHO_CHARS_MAX: usize = 40;

/// Every object's switch: failures as 200.
pub(crate) const SOFT_FAIL: &str = "softFail";

/// An object's values by field, not yet looked into.
#[derive(Debug)]
pub(crate) struct Fields<'a, const N: usize> {
    names: &'static [&'static str; N],
    values: [Option<&'a RawValue>; N],
    repeated: [bool; N],
    /// The first one.
    unknown: Option<String>,
}

impl<'a, const N: usize> Fields<'a, N> {
    /// Takes the body apart. Errs if it is not one JSON object.
    pub(crate) fn parse(
        body: &'a [u8],
        names: &'static [&'static str; N],
    ) -> Result<Self, Problem> {
        if body.is_empty() {
            return Err(Problem::invalid(
                "the body is empty; it must be a JSON object",
            ));
        }
        if body.starts_with(b"\xef\xbb\xbf") {
            return Err(Problem::invalid(
                "the body starts with a byte order mark; it must be a JSON object and nothing else",
            ));
        }
        let text = std::str::from_utf8(body)
            .map_err(|error| Problem::invalid(format!("the body is not UTF-8: {error}")))?;
        let mut reader = serde_json::Deserializer::from_str(text);
        let not_an_object = |error: serde_json::Error| {
            Problem::invalid(format!("the body must be one JSON object: {error}"))
        };
        let fields = Reader { names }
            .deserialize(&mut reader)
            .map_err(not_an_object)?;
        reader.end().map_err(not_an_object)?;
        Ok(fields)
    }

    /// Whether failures found from here on are softened. A `softFail` that is itself at fault
    /// softens nothing.
    pub(crate) fn soft_fail(&self) -> Result<bool, Problem> {
        if self
            .names
            .iter()
            .zip(self.repeated)
            .any(|(name, twice)| *name == SOFT_FAIL && twice)
        {
            return Err(repeated(SOFT_FAIL));
        }
        self.flag(SOFT_FAIL)
    }

    /// Errs if a field is unknown, or stands there twice.
    pub(crate) fn only_known_once(&self) -> Result<(), Problem> {
        if let Some(name) = &self.unknown {
            let allowed = self.names.join(", ");
            return Err(Problem::invalid(format!(
                "{} is not a field of this request; allowed are {allowed}",
                echo(name)
            )));
        }
        match self
            .names
            .iter()
            .zip(self.repeated)
            .find(|(_, twice)| *twice)
        {
            Some((name, _)) => Err(repeated(name)),
            None => Ok(()),
        }
    }

    /// A text that must be there.
    pub(crate) fn required_text(
        &self,
        name: &str,
        allowed: &dyn fmt::Display,
    ) -> Result<Cow<'a, str>, Problem> {
        match self.value(name) {
            Some(raw) => text(name, raw, allowed),
            None => Err(Problem::invalid(format!("{name} is required: {allowed}"))),
        }
    }

    /// A text that must be there and that no message may repeat.
    pub(crate) fn required_secret(
        &self,
        name: &str,
        allowed: &dyn fmt::Display,
    ) -> Result<Cow<'a, str>, Problem> {
        let wrong = || Problem::invalid(format!("{name} is required: a string, {allowed}"));
        let raw = self.given(name).ok_or_else(wrong)?;
        text(name, raw, allowed).map_err(|_| wrong())
    }

    /// A text that may be left out.
    pub(crate) fn optional_text(
        &self,
        name: &str,
        allowed: &dyn fmt::Display,
    ) -> Result<Option<Cow<'a, str>>, Problem> {
        self.given(name)
            .map(|raw| text(name, raw, allowed))
            .transpose()
    }

    /// A number that must be there.
    pub(crate) fn required_number(
        &self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<u64, Problem> {
        match self.value(name) {
            Some(raw) => number(name, raw, &range),
            None => Err(Problem::invalid(format!(
                "{name} is required: a whole number from {} to {}",
                range.start(),
                range.end()
            ))),
        }
    }

    /// A number that may be left out.
    pub(crate) fn number_or(
        &self,
        name: &str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, Problem> {
        self.given(name)
            .map_or(Ok(default), |raw| number(name, raw, &range))
    }

    /// A number that may be left out, and means something by its absence.
    pub(crate) fn optional_number(
        &self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, Problem> {
        let given = self.given(name);
        given.map(|raw| number(name, raw, &range)).transpose()
    }

    /// A switch that may be left out, and is off then.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.given(name).map(RawValue::get) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(Problem::invalid(format!(
                "{name} must be true or false; it is {}",
                echo(other)
            ))),
        }
    }

    fn value(&self, name: &str) -> Option<&'a RawValue> {
        let at = self.names.iter().position(|known| *known == name)?;
        self.values[at]
    }

    /// Like [`Self::value`]; null is as good as left out, because many a client writes its unset
    /// fields so.
    fn given(&self, name: &str) -> Option<&'a RawValue> {
        self.value(name).filter(|raw| raw.get() != "null")
    }
}

fn repeated(name: &str) -> Problem {
    Problem::invalid(format!(
        "{name} stands there more than once; each field is allowed once"
    ))
}

fn text<'a>(
    name: &str,
    raw: &'a RawValue,
    allowed: &dyn fmt::Display,
) -> Result<Cow<'a, str>, Problem> {
    let raw = raw.get();
    let Some(inner) = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return Err(Problem::invalid(format!(
            "{name} must be a string ({allowed}); it is {}",
            echo(raw)
        )));
    };
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    serde_json::from_str(raw).map(Cow::Owned).map_err(|error| {
        Problem::invalid(format!(
            "{name} must be a string ({allowed}); it does not decode: {error}"
        ))
    })
}

fn number(name: &str, raw: &RawValue, range: &RangeInclusive<u64>) -> Result<u64, Problem> {
    let raw = raw.get();
    let digits = raw.bytes().all(|byte| byte.is_ascii_digit());
    match raw.parse() {
        Ok(number) if digits && range.contains(&number) => Ok(number),
        _ => Err(Problem::invalid(format!(
            "{name} must be a whole number from {} to {}, in digits alone; it is {}",
            range.start(),
            range.end(),
            echo(raw)
        ))),
    }
}

/// A caller's text as it goes into a message: not longer than a message should be.
fn echo(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(ECHO_CHARS_MAX) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// Reads an object into [`Fields`].
struct Reader<const N: usize> {
    names: &'static [&'static str; N],
}

impl<'de, const N: usize> DeserializeSeed<'de> for Reader<N> {
    type Value = Fields<'de, N>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Reader<N> {
    type Value = Fields<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields {
            names: self.names,
            values: [None; N],
            repeated: [false; N],
            unknown: None,
        };
        while let Some(name) = map.next_key_seed(Name { names: self.names })? {
            let value = map.next_value::<&RawValue>()?;
            match name {
                Named::Known(at) => {
                    fields.repeated[at] |= fields.values[at].is_some();
                    fields.values[at] = Some(value);
                }
                Named::Unknown(name) => {
                    fields.unknown.get_or_insert(name);
                }
            }
        }
        Ok(fields)
    }
}

/// Reads a field's name.
struct Name<const N: usize> {
    names: &'static [&'static str; N],
}

enum Named {
    Known(usize),
    Unknown(String),
}

impl<'de, const N: usize> DeserializeSeed<'de> for Name<N> {
    type Value = Named;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Named, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<const N: usize> Visitor<'_> for Name<N> {
    type Value = Named;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Named, E> {
        let known = self.names.iter().position(|known| *known == name);
        Ok(known.map_or_else(|| Named::Unknown(echo(name).into_owned()), Named::Known))
    }
}
