//! JSON values as a data set needs them: integers of any size, and keys in the order of the file.

mod read;

use std::fmt;

use indexmap::IndexMap;

pub use read::{JsonError, JsonFault};

/// Lists and objects within each other in a text: more than any data has, few enough for a stack.
const MAX_DEPTH: usize = 128;

/// The members of an object, in the order they were written.
pub type Members = IndexMap<String, Json>;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    String(String),
    /// A list.
    Array(Vec<Json>),
    /// An object, no key of which occurs twice.
    Object(Box<Members>),
}

/// A number as Python's `json` reads it: with a point or an exponent a float, else an integer without bounds.
#[derive(Debug, Clone, PartialEq)]
pub enum Number {
    /// An integer of at most 64 bits.
    Integer(i64),
    /// The digits of a larger one, after a minus sign if it is negative.
    Digits(Box<str>),
    /// A finite float.
    Float(f64),
}

impl Json {
    /// Reads one value from `text`, which must hold nothing else but blanks.
    ///
    /// # Errors
    /// If `text` is not JSON, an object has a key twice, a string is not Unicode, or lists and objects are nested deeper
    /// than 128 levels.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        read::parse(text, MAX_DEPTH)
    }

    /// Reads what this program wrote, with data from a line within something larger.
    pub(super) fn parse_deep(text: &str) -> Result<Self, JsonError> {
        read::parse(text, 4 * MAX_DEPTH)
    }

    /// The member `key`, if this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.as_object()?.get(key)
    }

    /// The number, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Json::Number(Number::Integer(integer)) => Some(*integer as f64),
            Json::Number(Number::Float(float)) => Some(*float),
            Json::Number(Number::Digits(digits)) => digits.parse().ok(),
            _ => None,
        }
    }

    /// Returns the text, if the value is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    /// The members, if this is an object.
    pub fn as_object(&self) -> Option<&Members> {
        match self {
            Json::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The members to change, if this is an object.
    pub fn as_object_mut(&mut self) -> Option<&mut Members> {
        match self {
            Json::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The items, if this is a list.
    pub fn as_array(&self) -> Option<&[Json]> {
        match self {
            Json::Array(items) => Some(items),
            _ => None,
        }
    }

    /// An object of `pairs`; the last of equal keys wins.
    pub fn object<K: Into<String>>(pairs: impl IntoIterator<Item = (K, Json)>) -> Self {
        Json::Object(Box::new(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect()))
    }
}

/// Returns the text of the value, on one line.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(value) => write!(f, "{value}"),
            Json::Number(number) => write!(f, "{number}"),
            Json::String(text) => write_text(text, f),
            Json::Array(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    f.write_str(if i > 0 { "," } else { "" })?;
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
            Json::Object(members) => {
                f.write_str("{")?;
                for (i, (key, value)) in members.iter().enumerate() {
                    f.write_str(if i > 0 { "," } else { "" })?;
                    write_text(key, f)?;
                    f.write_str(":")?;
                    value.fmt(f)?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_text(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?)
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Json::String(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Json::String(text)
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Json::Null,
            serde_json::Value::Bool(value) => Json::Bool(value),
            serde_json::Value::Number(number) => Json::Number(match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => Number::Integer(integer),
                (None, Some(float)) if number.is_f64() => Number::Float(float),
                _ => Number::Digits(number.to_string().into()),
            }),
            serde_json::Value::String(text) => Json::String(text),
            serde_json::Value::Array(items) => Json::Array(items.into_iter().map(Json::from).collect()),
            serde_json::Value::Object(map) => Json::object(map.into_iter().map(|(key, value)| (key, value.into()))),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Integer(integer) => write!(f, "{integer}"),
            Number::Digits(digits) => f.write_str(digits),
            Number::Float(float) => write!(f, "{float:?}"),
        }
    }
}

/// Returns the kind of the value and, if it is short, the value itself, for messages.
pub(super) fn describe(value: Option<&Json>) -> String {
    match value {
        None => "nothing".into(),
        Some(Json::Null) => "null".into(),
        Some(Json::Array(_)) => "a list".into(),
        Some(Json::Object(_)) => "an object".into(),
        Some(Json::String(text)) if text.chars().count() > 40 => "a long text".into(),
        Some(Json::String(text)) => format!("`{text:?}`"),
        Some(Json::Bool(value)) => format!("`{value}`"),
        Some(Json::Number(Number::Digits(digits))) if digits.len() > 40 => "a long number".into(),
        Some(Json::Number(number)) => format!("`{number}`"),
    }
}
