//! Reads a JSON object field by field, and knows which fields nothing has read.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::quoting::quoted;

use super::{ConfigError, MAX_EXTENT, keys};

/// One JSON object of a `config.json`, read field by field; remembers where it is for the errors, and what was asked for.
/// `null` counts as absent.
#[derive(Clone)]
pub(crate) struct Fields<'a> {
    file: &'a Path,
    /// `""`, or the names of the enclosing objects with a dot after each.
    prefix: String,
    object: &'a Map<String, Value>,
    /// The fields that were asked for, in this object and in all others of the file, with their places.
    read: Rc<RefCell<BTreeSet<String>>>,
}

impl<'a> Fields<'a> {
    pub(crate) fn root(file: &'a Path, json: &'a Value) -> Result<Self, ConfigError> {
        match json {
            Value::Object(object) => Ok(Self { file, prefix: String::new(), object, read: Rc::default() }),
            other => Err(ConfigError::Field {
                file: file.to_owned(),
                field: "the whole file".into(),
                found: describe(other),
                expected: "an object".into(),
            }),
        }
    }

    fn get(&self, field: &str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(self.place(field));
        self.object.get(field).filter(|value| !value.is_null())
    }

    /// A field, with the objects that it is in.
    fn place(&self, field: &str) -> String {
        format!("{}{field}", self.prefix)
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
                Ok(Some(Fields { prefix: format!("{}.", self.place(field)), object, ..self.clone() }))
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

    /// The fields of this object that nothing has asked for so far and that may change a model.
    fn unread(&self) -> impl Iterator<Item = &'a str> {
        let read = self.read.borrow().clone();
        let prefix = self.prefix.clone();
        self.entries()
            .map(|(field, _)| field)
            .filter(move |field| !read.contains(&format!("{prefix}{field}")) && !keys::has_no_effect(field))
    }

    /// The places of [`unread`](Self::unread) fields.
    pub(super) fn unread_places(&self) -> impl Iterator<Item = String> {
        self.unread().map(|field| self.place(field))
    }

    /// Refuses an object with a field, its name beginning with `prefix`, that nothing has asked for: to be called when all
    /// such fields are read.
    pub(crate) fn refuse_unread(&self, prefix: &str) -> Result<(), ConfigError> {
        let Some(field) = self.unread().find(|field| field.starts_with(prefix)) else { return Ok(()) };
        let beginning = self.place(prefix);
        let read = self.read.borrow();
        let known = read.iter().filter(|place| place.starts_with(&beginning));
        let known: Vec<String> = known
            .filter_map(|place| place.strip_prefix(&self.prefix))
            .filter(|known| !known.contains('.'))
            .map(|known| format!("`{known}`"))
            .collect();
        Err(ConfigError::UnknownKey {
            file: self.file.to_owned(),
            field: self.place(&quoted(field)),
            known: known.join(", "),
        })
    }

    pub(crate) fn wrong(&self, field: &str, found: impl Display, expected: impl Display) -> ConfigError {
        ConfigError::Field {
            file: self.file.to_owned(),
            field: self.place(field),
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }

    pub(crate) fn absent(&self, field: &str, expected: impl Display) -> ConfigError {
        self.wrong(field, "nothing", expected)
    }

    pub(crate) fn unsupported(&self, field: &str, what: impl Into<String>) -> ConfigError {
        ConfigError::Unsupported { file: self.file.to_owned(), field: self.place(field), what: what.into() }
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
