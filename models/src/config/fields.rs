use std::fmt::Display;
use std::path::Path;

use serde_json::{Map, Value};

use super::{ConfigError, MAX_EXTENT};

/// One JSON object of a `config.json`, read field by field; remembers where it is for the errors. `null` counts as
/// absent.
#[derive(Clone)]
pub(crate) struct Fields<'a> {
    file: &'a Path,
    /// `""`, or the names of the enclosing objects with a dot after each.
    prefix: String,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(crate) fn root(file: &'a Path, json: &'a Value) -> Result<Self, ConfigError> {
        match json {
            Value::Object(object) => Ok(Self { file, prefix: String::new(), object }),
            other => Err(ConfigError::Field {
                file: file.to_owned(),
                field: "the whole file".into(),
                found: describe(other),
                expected: "an object".into(),
            }),
        }
    }

    fn get(&self, field: &str) -> Option<&'a Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    /// All fields but those that are null.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.object.iter().map(|(name, value)| (name.as_str(), value)).filter(|(_, value)| !value.is_null())
    }

    pub(crate) fn has(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    pub(crate) fn object(&self, field: &str) -> Result<Option<Fields<'a>>, ConfigError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Object(object)) => {
                Ok(Some(Fields { file: self.file, prefix: format!("{}{field}.", self.prefix), object }))
            }
            Some(other) => Err(self.wrong(field, describe(other), "an object")),
        }
    }

    pub(crate) fn array(&self, field: &str) -> Result<Option<&'a [Value]>, ConfigError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(self.wrong(field, describe(other), "a list")),
        }
    }

    pub(crate) fn string(&self, field: &str) -> Result<Option<&'a str>, ConfigError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(field, describe(other), "a string")),
        }
    }

    pub(crate) fn boolean(&self, field: &str) -> Result<Option<bool>, ConfigError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong(field, describe(other), "true or false")),
        }
    }

    /// A size that must be there: an integer from 1 to `MAX_EXTENT`.
    pub(crate) fn size(&self, field: &str) -> Result<usize, ConfigError> {
        self.optional_size(field)?.ok_or_else(|| self.absent(field, "a positive integer"))
    }

    pub(crate) fn optional_size(&self, field: &str) -> Result<Option<usize>, ConfigError> {
        match self.optional_count(field)? {
            Some(0) => Err(self.wrong(field, 0, "a positive integer")),
            size => Ok(size),
        }
    }

    pub(crate) fn optional_count(&self, field: &str) -> Result<Option<usize>, ConfigError> {
        self.get(field).map(|value| self.count(field, value)).transpose()
    }

    pub(crate) fn count(&self, field: &str, value: &Value) -> Result<usize, ConfigError> {
        match value.as_u64().and_then(|value| usize::try_from(value).ok()) {
            Some(count) if count <= MAX_EXTENT => Ok(count),
            _ => Err(self.wrong(field, describe(value), format_args!("an integer from 0 to {MAX_EXTENT}"))),
        }
    }

    pub(crate) fn positive_number(&self, field: &str) -> Result<Option<f64>, ConfigError> {
        match self.get(field) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if number > 0.0 && number.is_finite() => Ok(Some(number)),
                _ => Err(self.wrong(field, describe(value), "a positive number")),
            },
        }
    }

    pub(crate) fn expect_multiple(&self, whole: (&str, usize), part: (&str, usize)) -> Result<(), ConfigError> {
        if whole.1.is_multiple_of(part.1) {
            return Ok(());
        }
        Err(self.wrong(whole.0, whole.1, format_args!("a multiple of `{}`, which is {}", part.0, part.1)))
    }

    pub(crate) fn wrong(&self, field: &str, found: impl Display, expected: impl Display) -> ConfigError {
        ConfigError::Field {
            file: self.file.to_owned(),
            field: format!("{}{field}", self.prefix),
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }

    pub(crate) fn absent(&self, field: &str, expected: impl Display) -> ConfigError {
        self.wrong(field, "nothing", expected)
    }

    pub(crate) fn unsupported(&self, field: &str, what: impl Into<String>) -> ConfigError {
        ConfigError::Unsupported {
            file: self.file.to_owned(),
            field: format!("{}{field}", self.prefix),
            what: what.into(),
        }
    }
}

/// A JSON value for an error message: short, whatever the file holds.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".into(),
        Value::Array(items) => format!("a list of {}", items.len()),
        other => {
            let text = other.to_string();
            match text.char_indices().nth(60) {
                Some((end, _)) => format!("`{}...`", &text[..end]),
                None => format!("`{text}`"),
            }
        }
    }
}
