//! The few habits of Python that chat templates rely on and minijinja does not share.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};
use serde_json::Value as Json;

/// `str(value)`, as an expression or the filter `string` prints it: `True`, `None`, `1e-05`.
pub(super) fn display(value: &Value) -> String {
    match value.kind() {
        ValueKind::None => "None".into(),
        ValueKind::Bool if value.is_true() => "True".into(),
        ValueKind::Bool => "False".into(),
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
        }
        _ => value.to_string(),
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
    let json =
        serde_json::to_value(value).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let mut out = String::new();
    Dump { indent, sort_keys, separators }.write(&json, 0, &mut out);
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
    fn write(&self, json: &Json, depth: usize, out: &mut String) {
        match json {
            Json::Array(items) => {
                self.write_all(('[', ']'), items.len(), depth, out, |i, out| self.write(&items[i], depth + 1, out));
            }
            Json::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                if self.sort_keys {
                    entries.sort_by_key(|(key, _)| *key);
                }
                self.write_all(('{', '}'), entries.len(), depth, out, |i, out| {
                    let (key, value) = entries[i];
                    out.push_str(&Json::from(key.as_str()).to_string());
                    out.push_str(&self.separators.1);
                    self.write(value, depth + 1, out);
                });
            }
            Json::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
                Some(value) => out.push_str(&float(value)),
                None => out.push_str(&number.to_string()),
            },
            Json::Null | Json::Bool(_) | Json::String(_) => out.push_str(&json.to_string()),
        }
    }

    fn write_all(
        &self,
        brackets: (char, char),
        count: usize,
        depth: usize,
        out: &mut String,
        mut item: impl FnMut(usize, &mut String),
    ) {
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
            item(i, out);
        }
        if count > 0 {
            break_line(depth, out);
        }
        out.push(brackets.1);
    }
}

/// `repr` of a float: the shortest digits that read back, with an exponent below 1e-4 and from 1e16.
fn float(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN".into()
        } else if value > 0.0 {
            "Infinity".into()
        } else {
            "-Infinity".into()
        };
    }
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
