//! A strict reader of JSON text.
//!
//! serde_json, which the rest of the program uses, turns large integers into floats, keeps the last of equal keys, and
//! does not distinguish faults well enough to name their causes.

use super::{Json, Members, Number};

/// The reason why a text is not JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct JsonError {
    /// The byte at which the fault was noticed, counted from 0.
    pub at: usize,
    /// The kind of fault, where that matters to the reader of a file.
    pub fault: JsonFault,
    /// The message: what was found and what was expected.
    pub message: String,
}

/// Kinds of faults that have causes outside of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonFault {
    /// The text ends before the value does.
    Unfinished,
    /// Something follows the value.
    Trailing,
    /// Any other fault.
    Other,
}

pub(super) fn parse(text: &str, max_depth: usize) -> Result<Json, JsonError> {
    let mut reader = Reader { text, at: 0, depth: 0, max_depth };
    let value = reader.value()?;
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(reader.error(JsonFault::Trailing, "found more text after the value")),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    max_depth: usize,
}

impl Reader<'_> {
    fn error(&self, fault: JsonFault, message: impl Into<String>) -> JsonError {
        JsonError { at: self.at.min(self.text.len()), fault, message: message.into() }
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, JsonError> {
        Err(self.error(JsonFault::Other, message))
    }

    /// The next byte after blanks.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// Returns the error about what is at this place instead of `expected`.
    fn unexpected<T>(&self, expected: &str) -> Result<T, JsonError> {
        match self.text[self.at..].chars().next() {
            None => Err(self.error(JsonFault::Unfinished, format!("the text ends, expected {expected}"))),
            Some('\'') => self.fail(format!("found `'`, expected {expected} (JSON has double quotes)")),
            Some(char) => self.fail(format!("found `{}`, expected {expected}", char.escape_debug())),
        }
    }

    fn value(&mut self) -> Result<Json, JsonError> {
        match self.peek() {
            Some(b'{') => self.nested(Self::members).map(|members| Json::Object(Box::new(members))),
            Some(b'[') => self.nested(Self::items).map(Json::Array),
            Some(b'"') => self.string().map(Json::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Json::Number),
            Some(b'a'..=b'z' | b'A'..=b'Z') => self.word(),
            _ => self.unexpected("a value"),
        }
    }

    fn nested<T>(&mut self, read: impl Fn(&mut Self) -> Result<T, JsonError>) -> Result<T, JsonError> {
        if self.depth == self.max_depth {
            return self.fail(format!("lists and objects are nested deeper than {} levels", self.max_depth));
        }
        self.depth += 1;
        self.at += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn members(&mut self) -> Result<Members, JsonError> {
        let mut members = Members::new();
        if self.ends(b'}') {
            return Ok(members);
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.unexpected("a key in double quotes");
            }
            let start = self.at;
            let key = self.string()?;
            if members.contains_key(&key) {
                self.at = start;
                let key: String = key.chars().take(40).collect();
                return self.fail(format!("the key `{}` stands twice in one object", key.escape_debug()));
            }
            if self.peek() != Some(b':') {
                return self.unexpected("`:` after a key");
            }
            self.at += 1;
            let value = self.value()?;
            members.insert(key, value);
            if self.separated(b'}', "`,` or `}`")? {
                return Ok(members);
            }
        }
    }

    fn items(&mut self) -> Result<Vec<Json>, JsonError> {
        let mut items = Vec::new();
        if self.ends(b']') {
            return Ok(items);
        }
        loop {
            items.push(self.value()?);
            if self.separated(b']', "`,` or `]`")? {
                return Ok(items);
            }
        }
    }

    fn ends(&mut self, bracket: u8) -> bool {
        let ends = self.peek() == Some(bracket);
        self.at += usize::from(ends);
        ends
    }

    /// Returns whether the list or object ends here; else passes over the comma.
    fn separated(&mut self, bracket: u8, expected: &str) -> Result<bool, JsonError> {
        match self.peek() {
            Some(b',') => self.at += 1,
            Some(byte) if byte == bracket => {
                self.at += 1;
                return Ok(true);
            }
            _ => return self.unexpected(expected),
        }
        match self.peek() {
            Some(byte) if byte == bracket => self.fail("a comma stands before the closing bracket"),
            _ => Ok(false),
        }
    }

    fn word(&mut self) -> Result<Json, JsonError> {
        let rest = &self.text[self.at..];
        let end = rest.find(|char: char| !char.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let value = match &rest[..end] {
            "null" => Json::Null,
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            word @ ("NaN" | "Infinity") => return self.fail(format!("`{word}`, which Python writes, is not JSON")),
            word @ ("None" | "True" | "False") => return self.fail(format!("`{word}` is Python, not JSON")),
            part if end == rest.len() && ["null", "true", "false"].iter().any(|word| word.starts_with(part)) => {
                return Err(self.error(JsonFault::Unfinished, format!("the text ends within `{part}`")));
            }
            word => {
                let word: String = word.chars().take(40).collect();
                return self.fail(format!("found `{word}`, expected a value"));
            }
        };
        self.at += end;
        Ok(value)
    }

    fn number(&mut self) -> Result<Number, JsonError> {
        let (start, bytes) = (self.at, self.text.as_bytes());
        let digits = |mut at: usize| {
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            at
        };
        let first = start + usize::from(bytes[start] == b'-');
        self.at = digits(first);
        if self.at == first {
            return match self.text[first..].starts_with("Infinity") {
                true => self.fail("`-Infinity`, which Python writes, is not JSON"),
                false => self.unexpected("a digit"),
            };
        }
        if bytes[first] == b'0' && self.at > first + 1 {
            return self.fail("a number begins with 0");
        }
        let is_integer = !matches!(bytes.get(self.at), Some(b'.' | b'e' | b'E'));
        if bytes.get(self.at) == Some(&b'.') {
            let fraction = self.at + 1;
            self.at = digits(fraction);
            if self.at == fraction {
                return self.unexpected("a digit");
            }
        }
        if matches!(bytes.get(self.at), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(self.at + 1), Some(b'+' | b'-')));
            let exponent = self.at + 1 + sign;
            self.at = digits(exponent);
            if self.at == exponent {
                return self.unexpected("a digit");
            }
        }
        let text = &self.text[start..self.at];
        if is_integer {
            return Ok(text.parse().map_or_else(|_| Number::Digits(text.into()), Number::Integer));
        }
        match text.parse::<f64>() {
            Ok(float) if float.is_finite() => Ok(Number::Float(float)),
            _ => {
                self.at = start;
                self.fail("a number is too large for a float")
            }
        }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut string = String::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(length) = rest.bytes().position(|byte| byte == b'"' || byte == b'\\' || byte < b' ') else {
                self.at = self.text.len();
                return Err(self.error(JsonFault::Unfinished, "the text ends within a string"));
            };
            string.push_str(&rest[..length]);
            self.at += length;
            match rest.as_bytes()[length] {
                b'"' => {
                    self.at += 1;
                    return Ok(string);
                }
                b'\\' => string.push(self.escape()?),
                b'\n' | b'\r' => return self.fail("a line break within a string, expected `\\n`"),
                0 => return self.fail("a NUL byte within a string, expected `\\u0000`"),
                byte => return self.fail(format!("a control character within a string, expected `\\u{byte:04x}`")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        let Some(kind) = self.text[start + 1..].chars().next() else {
            self.at = self.text.len();
            return Err(self.error(JsonFault::Unfinished, "the text ends within a string"));
        };
        self.at += 1 + kind.len_utf8();
        Ok(match kind {
            '"' | '\\' | '/' => kind,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let unit = self.hex(start)?;
                let mut units = vec![unit];
                if (0xd800..0xdc00).contains(&unit) && self.text[self.at..].starts_with("\\u") {
                    self.at += 2;
                    units.push(self.hex(start)?);
                }
                match char::decode_utf16(units).next() {
                    Some(Ok(char)) => char,
                    _ => {
                        self.at = start;
                        return self
                            .fail(format!("`\\u{unit:04x}` is half of a surrogate pair, which alone is no character"));
                    }
                }
            }
            other => {
                self.at = start;
                return self.fail(format!("`\\{}` is no escape of JSON", other.escape_debug()));
            }
        })
    }

    /// The four digits of an escape that begins at `start`.
    fn hex(&mut self, start: usize) -> Result<u16, JsonError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).unwrap_or_default();
        if digits.is_empty() && !self.text[self.at..].contains('"') {
            self.at = self.text.len();
            return Err(self.error(JsonFault::Unfinished, "the text ends within a string"));
        }
        let is_hex = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
        let unit = if is_hex { self.text.get(self.at..self.at + 4) } else { None };
        match unit.and_then(|unit| u16::from_str_radix(unit, 16).ok()) {
            Some(unit) => {
                self.at += 4;
                Ok(unit)
            }
            None => {
                self.at = start;
                self.fail("found `\\u` without four hexadecimal digits")
            }
        }
    }
}
