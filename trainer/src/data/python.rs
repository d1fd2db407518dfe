//! The few habits of Python that chat templates rely on and minijinja does not share.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Kwargs, Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind};

use super::json::{Json, Number};

/// Lists and objects within each other. Data is nested less deeply; a template may build what holds itself.
const MAX_DEPTH: usize = 200;

/// A JSON value as templates see it.
pub(super) fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(Number::Integer(integer)) => Value::from(*integer),
        Json::Number(Number::Float(float)) => Value::from(*float),
        Json::Number(Number::Digits(digits)) => match (digits.parse::<i128>(), digits.parse::<u128>()) {
            (Ok(integer), _) => Value::from(integer),
            (_, Ok(integer)) => Value::from(integer),
            _ => Value::from_object(LargeInteger(digits.clone())),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(value).collect(),
        Json::Object(members) => Value::from_pairs(members.iter().map(|(key, member)| (key.as_str(), value(member)))),
    }
}

/// An integer beyond 128 bits, of which a template can do nothing but write it.
#[derive(Debug)]
struct LargeInteger(Box<str>);

impl Object for LargeInteger {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `str(value)`, as an expression or the filter `string` prints it: `True`, `None`, `1e-05`, `{'a': 'b'}`.
pub(super) fn display(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let mut out = String::new();
    write_repr(value, 0, &mut out)?;
    Ok(out)
}

/// `repr(value)`.
fn write_repr(value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    check_depth(depth)?;
    match value.kind() {
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            Ok(float) if float.is_nan() => out.push_str("nan"),
            Ok(float) if float.is_infinite() => out.push_str(if float > 0.0 { "inf" } else { "-inf" }),
            Ok(float) => out.push_str(&finite(float)),
            Err(_) => out.push_str(&value.to_string()),
        },
        ValueKind::String => write_quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter()?.enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(&key, depth + 1, out)?;
                out.push_str(": ");
                write_repr(&value.get_item(&key)?, depth + 1, out)?;
            }
            out.push('}');
        }
        ValueKind::Seq => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.push(open);
            for (i, item) in value.try_iter()?.enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(&item, depth + 1, out)?;
            }
            out.push_str(if value.is_tuple() && value.len() == Some(1) { "," } else { "" });
            out.push(close);
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

fn write_quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            char if char == quote => out.extend(['\\', char]),
            char if char.is_control() && (char as u32) < 0x100 => out.push_str(&format!("\\x{:02x}", char as u32)),
            char => out.push(char),
        }
    }
    out.push(quote);
}

fn check_depth(depth: usize) -> Result<(), Error> {
    match depth {
        0..=MAX_DEPTH => Ok(()),
        _ => {
            let message = format!("a value is nested deeper than {MAX_DEPTH} levels, or within itself");
            Err(Error::new(ErrorKind::InvalidOperation, message))
        }
    }
}

/// The filter `tojson` as transformers defines it: `json.dumps` without HTML escapes, in the order of the keys.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    if options.get::<Option<bool>>("ensure_ascii")? == Some(true) {
        return Err(Error::new(ErrorKind::InvalidOperation, "`tojson(ensure_ascii=true)` is not supported for now"));
    }
    let indent = options.get::<Option<usize>>("indent")?;
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let separators = match options.get::<Option<Vec<String>>>("separators")?.as_deref() {
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "`separators` of `tojson` must be two strings")),
    };
    options.assert_all_used()?;
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "`tojson` of a value that is not defined"));
    }
    let mut out = String::new();
    Dump { indent, sort_keys, separators }.write(value, 0, &mut out)?;
    Ok(out)
}

/// `strftime_now(format)`: the local time, by the directives of C's `strftime`.
pub(super) fn strftime_now(format: &str) -> Result<String, Error> {
    jiff::fmt::strtime::format(format, &jiff::Zoned::now())
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now({format:?}): {error}")))
}

struct Dump {
    indent: Option<usize>,
    sort_keys: bool,
    separators: (String, String),
}

impl Dump {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        check_depth(depth)?;
        match value.kind() {
            ValueKind::None | ValueKind::Undefined => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if !value.is_integer() => out.push_str(&float(f64::try_from(value.clone())?)),
            ValueKind::Number => out.push_str(&value.to_string()),
            ValueKind::String => write_json_text(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.write_all(('[', ']'), items.len(), depth, out, |i, out| self.write(&items[i], depth + 1, out))?;
            }
            ValueKind::Map => {
                let mut entries = Vec::new();
                for key in value.try_iter()? {
                    entries.push((self.key(&key)?, value.get_item(&key)?));
                }
                if self.sort_keys {
                    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
                }
                self.write_all(('{', '}'), entries.len(), depth, out, |i, out| {
                    let (key, value) = &entries[i];
                    write_json_text(key, out);
                    out.push_str(&self.separators.1);
                    self.write(value, depth + 1, out)
                })?;
            }
            kind => match value.downcast_object_ref::<LargeInteger>() {
                Some(LargeInteger(digits)) => out.push_str(digits),
                None => {
                    return Err(Error::new(ErrorKind::BadSerialization, format!("a value of kind {kind} is not JSON")));
                }
            },
        }
        Ok(())
    }

    /// A key as text: JSON has no others.
    fn key(&self, key: &Value) -> Result<String, Error> {
        match key.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => {
                let mut text = String::new();
                self.write(key, MAX_DEPTH, &mut text)?;
                Ok(text)
            }
        }
    }

    fn write_all(
        &self,
        brackets: (char, char),
        count: usize,
        depth: usize,
        out: &mut String,
        mut item: impl FnMut(usize, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let break_line = |depth: usize, out: &mut String| {
            if let Some(indent) = self.indent {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent * depth));
            }
        };
        out.push(brackets.0);
        for i in 0..count {
            if i > 0 {
                out.push_str(&self.separators.0);
            }
            break_line(depth + 1, out);
            item(i, out)?;
        }
        if count > 0 {
            break_line(depth, out);
        }
        out.push(brackets.1);
        Ok(())
    }
}

fn write_json_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// A float as `json.dumps` writes it.
fn float(value: f64) -> String {
    if value.is_finite() {
        return finite(value);
    }
    match value.is_nan() {
        true => "NaN".into(),
        false if value > 0.0 => "Infinity".into(),
        false => "-Infinity".into(),
    }
}

/// `repr` of a float: the shortest digits that read back, with an exponent below 1e-4 and from 1e16.
fn finite(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-4..1e16).contains(&magnitude) {
        return format!("{value:?}");
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The right-hand sides are what `str` and `json.dumps(.., ensure_ascii=False)` of Python 3 print.
    #[test]
    fn values_print_as_in_python() {
        for (json, printed, dumped) in [
            ("null", "None", "null"),
            ("170141183460469231731687303715884105728", "", ""),
            ("-340282366920938463463374607431768211457", "", ""),
            (r#"{"a": [1, 2.0, true, null], "b": {}}"#, "{'a': [1, 2.0, True, None], 'b': {}}", ""),
            (
                r#"["it's", "say \"a\"", "it's \"a\"", "\n\u0007é"]"#,
                r#"["it's", 'say "a"', 'it\'s "a"', '\n\x07é']"#,
                "",
            ),
        ] {
            let value = value(&Json::parse(json).unwrap());
            assert_eq!(display(&value).unwrap(), if printed.is_empty() { json } else { printed });
            let options = Kwargs::from_iter([] as [(&str, Value); 0]);
            assert_eq!(tojson(&value, options).unwrap(), if dumped.is_empty() { json } else { dumped });
        }
    }

    /// The right-hand sides are what Python 3 prints.
    #[test]
    fn floats_print_as_in_python() {
        for (value, expected) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e-7, "1.5e-07"),
            (1e100, "1e+100"),
            (-0.0, "-0.0"),
        ] {
            assert_eq!(float(value), expected);
        }
    }
}
