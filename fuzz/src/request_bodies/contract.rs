//! The bodies of lock requests by the contract, read once more: slowly, and with another's code.

use std::collections::BTreeMap;
use std::fmt;

use http::HeaderValue;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A field of a body: its name, whether it must be there, and what it is.
pub(super) struct Field(&'static str, bool, Kind);

enum Kind {
    Key,
    Uuid,
    Number(u64, u64),
    Flag,
}

pub(super) const ACQUIRE: &[Field] = &[
    Field("key", true, Kind::Key),
    Field("lease", false, Kind::Number(1, 86_400_000)),
    Field("retryAttempts", false, Kind::Number(0, 1000)),
    Field("retryDelay", false, Kind::Number(0, 60_000)),
    Field("retryJitter", false, Kind::Number(0, 60_000)),
    Field("uuid", false, Kind::Uuid),
    Field("softFail", false, Kind::Flag),
    Field("fifo", false, Kind::Flag),
];
pub(super) const EXTEND: &[Field] = &[
    Field("key", true, Kind::Key),
    Field("uuid", true, Kind::Uuid),
    Field("extendBy", true, Kind::Number(1, 86_400_000)),
    Field("softFail", false, Kind::Flag),
];
pub(super) const RELEASE: &[Field] = &[
    Field("key", true, Kind::Key),
    Field("uuid", true, Kind::Uuid),
    Field("softFail", false, Kind::Flag),
];

/// A field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(u64),
    Flag(bool),
}

/// What a body comes to.
pub(super) enum Expected {
    TooLarge,
    Invalid { is_soft: bool },
    Valid(BTreeMap<&'static str, Value>),
}

/// 1 to 512 bytes of UTF-8, no control characters.
pub(super) fn key_text(text: &str) -> bool {
    (1..=512).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// 1 to 128 visible ASCII characters.
fn name_text(text: &[u8]) -> bool {
    (1..=128).contains(&text.len()) && text.iter().all(|byte| (33..127).contains(byte))
}

pub(super) fn expected(
    fields: &[Field],
    body: &[u8],
    idempotency: Option<&HeaderValue>,
) -> Expected {
    if body.len() > 64 * 1024 {
        return Expected::TooLarge;
    }
    let Some(pairs) = pairs(body) else {
        return Expected::Invalid { is_soft: false };
    };
    let soft: Vec<&str> = pairs
        .iter()
        .filter(|(name, _)| name == "softFail")
        .map(|(_, raw)| raw.get())
        .collect();
    let is_soft = soft == ["true"];
    let invalid = Expected::Invalid { is_soft };
    let mut values = BTreeMap::new();
    for (name, raw) in &pairs {
        let Some(Field(name, is_required, kind)) =
            fields.iter().find(|Field(known, ..)| known == name)
        else {
            return invalid;
        };
        if pairs.iter().filter(|(other, _)| other == name).count() > 1 {
            return invalid;
        }
        if raw.get() == "null" && !is_required {
            continue;
        }
        let Some(value) = value(kind, raw.get()) else {
            return invalid;
        };
        values.insert(*name, value);
    }
    let is_missing =
        |Field(name, is_required, _): &Field| *is_required && !values.contains_key(name);
    if fields.iter().any(is_missing) {
        return invalid;
    }
    let number = |name: &str, default| match values.get(name) {
        Some(Value::Number(number)) => *number,
        _ => default,
    };
    let step = number("retryDelay", 500) + number("retryJitter", 0);
    let is_acquire = fields.iter().any(|Field(name, ..)| *name == "lease");
    if is_acquire && number("retryAttempts", 10) * step > 600_000 {
        return invalid;
    }
    if idempotency.is_some_and(|key| !name_text(key.as_bytes())) {
        return invalid;
    }
    Expected::Valid(values)
}

fn value(kind: &Kind, raw: &str) -> Option<Value> {
    match kind {
        Kind::Flag => match raw {
            "true" => Some(Value::Flag(true)),
            "false" => Some(Value::Flag(false)),
            _ => None,
        },
        Kind::Number(from, to) => {
            let number: serde_json::Value = serde_json::from_str(raw).ok()?;
            let number = number.as_u64()?;
            let is_plain = number.to_string() == raw && (*from..=*to).contains(&number);
            is_plain.then_some(Value::Number(number))
        }
        Kind::Key => {
            let text: String = serde_json::from_str(raw).ok()?;
            key_text(&text).then_some(Value::Text(text))
        }
        Kind::Uuid => {
            let text: String = serde_json::from_str(raw).ok()?;
            name_text(text.as_bytes()).then_some(Value::Text(text))
        }
    }
}

/// An object's fields as they stand there.
fn pairs(body: &[u8]) -> Option<Vec<(String, Box<RawValue>)>> {
    struct Pairs;

    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, Box<RawValue>)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }

    let mut reader = serde_json::Deserializer::from_slice(body);
    let pairs = reader.deserialize_map(Pairs).ok()?;
    reader.end().ok()?;
    Some(pairs)
}
