//! Words for schemas, so that a field takes one line and its bounds come from where they are checked.

use std::ops::RangeInclusive;

use serde_json::Value;
use utoipa::openapi::schema::{
    AdditionalProperties, KnownFormat, Object, Ref, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{Array, RefOr};

/// A schema and the name that others refer to it by.
pub(super) type Named = (&'static str, Schema);

fn of(kind: Type, about: &str) -> Object {
    let mut object = Object::with_type(kind);
    object.description = Some(about.to_owned());
    object
}

/// An object. Its fields come with [`Words::must`] and [`Words::may`].
pub(super) fn object(about: &str) -> Object {
    of(Type::Object, about)
}

/// A whole number from 0.
pub(super) fn count(about: &str) -> Object {
    let mut object = of(Type::Integer, about);
    object.format = Some(SchemaFormat::KnownFormat(KnownFormat::Int64));
    object.minimum = Some(0_u64.into());
    object
}

/// A whole number within bounds.
pub(super) fn whole(about: &str, range: RangeInclusive<u64>) -> Object {
    let mut object = count(about);
    object.minimum = Some((*range.start()).into());
    object.maximum = Some((*range.end()).into());
    object
}

pub(super) fn text(about: &str) -> Object {
    of(Type::String, about)
}

/// A text of at least 1 and at most `max` characters, each as in `pattern`.
pub(super) fn name(about: &str, max: usize, pattern: &str) -> Object {
    let mut object = text(about);
    object.min_length = Some(1);
    object.max_length = Some(max);
    object.pattern = Some(pattern.to_owned());
    object
}

/// Visible ASCII characters.
pub(super) const VISIBLE: &str = "^[!-~]+$";
/// Anything but control characters.
pub(super) const PRINTABLE: &str = r"^[^\u0000-\u001f\u007f-\u009f]+$";
/// What an identity is made of.
pub(super) const WORD: &str = "^[A-Za-z0-9_-]+$";

/// A moment as in 2027-01-31T00:00:00Z.
pub(super) fn moment(about: &str) -> Object {
    let mut object = text(about);
    object.format = Some(SchemaFormat::KnownFormat(KnownFormat::DateTime));
    object
}

pub(super) fn flag(about: &str) -> Object {
    of(Type::Boolean, about)
}

pub(super) fn nothing(about: &str) -> Object {
    of(Type::Null, about)
}

/// One of these words.
pub(super) fn choice(about: &str, words: &[&str]) -> Object {
    text(about).one_of(words.iter().map(|word| Value::from(*word)))
}

pub(super) fn list(about: &str, items: impl Into<RefOr<Schema>>) -> Array {
    let mut array = Array::new(items);
    array.description = Some(about.to_owned());
    array
}

/// The schema of this name.
pub(super) fn named(name: &str) -> RefOr<Schema> {
    Ref::from_schema_name(name).into()
}

/// What is said of an object after it was begun.
pub(super) trait Words: Sized {
    /// A field that is always there.
    fn must(self, name: &str, schema: impl Into<RefOr<Schema>>) -> Self;
    /// A field that may be left out.
    fn may(self, name: &str, schema: impl Into<RefOr<Schema>>) -> Self;
    /// No other fields: the server refuses a request that has one.
    fn closed(self) -> Self;
    /// Null is a value too.
    fn or_null(self) -> Self;
    fn default_to(self, value: impl Into<Value>) -> Self;
    fn one_of(self, values: impl IntoIterator<Item = Value>) -> Self;
    fn example(self, value: Value) -> Self;
}

impl Words for Object {
    fn must(mut self, name: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        self.required.push(name.to_owned());
        self.may(name, schema)
    }

    fn may(mut self, name: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        self.properties.insert(name.to_owned(), schema.into());
        self
    }

    fn closed(mut self) -> Self {
        self.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        self
    }

    fn or_null(mut self) -> Self {
        if let SchemaType::Type(kind) = self.schema_type {
            self.schema_type = SchemaType::Array(vec![kind, Type::Null]);
        }
        if let Some(values) = &mut self.enum_values {
            values.push(Value::Null);
        }
        self
    }

    fn default_to(mut self, value: impl Into<Value>) -> Self {
        self.default = Some(value.into());
        self
    }

    fn one_of(mut self, values: impl IntoIterator<Item = Value>) -> Self {
        self.enum_values = Some(values.into_iter().collect());
        self
    }

    fn example(mut self, value: Value) -> Self {
        self.examples.push(value);
        self
    }
}
