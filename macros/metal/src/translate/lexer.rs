//! Tokens of Metal source, each with its place. Nothing is lost: the tokens' texts add up to the source.

use crate::{Location, Source};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Identifier,
    Number,
    /// One character.
    Punctuation,
    /// White space or a comment.
    Space,
    /// A string or character literal.
    Literal,
    /// A whole preprocessor line, continuations included, without its line end.
    Directive,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    /// Byte offset in the text.
    offset: usize,
}

impl Token<'_> {
    pub fn is(&self, punctuation: char) -> bool {
        self.kind == Kind::Punctuation && self.text.starts_with(punctuation)
    }
}

/// Splits `text` into tokens. Never fails: what is no token of C++ becomes punctuation, for the compiler to refuse.
pub(crate) fn lex(text: &str) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let mut tokens: Vec<Token<'_>> = Vec::new();
    let mut at = 0;
    let mut line_start = true;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (kind, length) = match rest[0] {
            b'#' if line_start => (Kind::Directive, directive(rest)),
            c if c.is_ascii_whitespace() => (Kind::Space, span(rest, |c| c.is_ascii_whitespace())),
            b'/' if rest.get(1) == Some(&b'/') => (Kind::Space, span(rest, |c| c != b'\n')),
            b'/' if rest.get(1) == Some(&b'*') => {
                let end = text[at + 2..].find("*/").map_or(rest.len(), |n| n + 4);
                (Kind::Space, end)
            }
            c if c.is_ascii_alphabetic() || c == b'_' => (Kind::Identifier, span(rest, is_word_byte)),
            b'0'..=b'9' => (Kind::Number, number(rest)),
            b'.' if rest.get(1).is_some_and(u8::is_ascii_digit) => (Kind::Number, number(rest)),
            quote @ (b'"' | b'\'') => (Kind::Literal, literal(rest, quote)),
            _ => (Kind::Punctuation, text[at..].chars().next().map_or(1, char::len_utf8)),
        };
        let token = Token { kind, text: &text[at..at + length], offset: at };
        line_start = match kind {
            Kind::Space => line_start || token.text.contains('\n'),
            _ => false,
        };
        at += length;
        tokens.push(token);
    }
    tokens
}

fn is_word_byte(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_'
}

fn span(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|&c| !belongs(c)).unwrap_or(bytes.len())
}

fn number(bytes: &[u8]) -> usize {
    let hexadecimal = bytes[0] == b'0' && matches!(bytes.get(1), Some(b'x' | b'X'));
    let exponent: &[u8] = if hexadecimal { b"pP" } else { b"eE" };
    let mut at = 1;
    while let Some(&c) = bytes.get(at) {
        let signed = matches!(c, b'+' | b'-') && exponent.contains(&bytes[at - 1]);
        let separator = c == b'\'' && bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric);
        if !(is_word_byte(c) || c == b'.' || signed || separator) {
            break;
        }
        at += 1;
    }
    at
}

fn literal(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(&c) = bytes.get(at) {
        match c {
            b'\\' => at += 1,
            b'\n' => return at,
            _ if c == quote => return at + 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

fn directive(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        at += span(&bytes[at..], |c| c != b'\n');
        if at >= bytes.len() || at == 0 || bytes[at - 1] != b'\\' {
            return at;
        }
        at += 1;
    }
}

/// Knows where in the author's file a token stands, `#line` directives included.
pub(crate) struct Places<'a> {
    text: &'a str,
    /// Byte offset from which on a file and line hold: ascending.
    starts: Vec<(usize, Location)>,
}

impl<'a> Places<'a> {
    pub fn new(source: &'a Source, tokens: &[Token<'a>]) -> Self {
        let mut starts = vec![(0, Location { file: source.file.clone(), line: source.line.max(1) })];
        for token in tokens.iter().filter(|t| t.kind == Kind::Directive) {
            let mut words = token.text[1..].split_whitespace();
            if words.next() != Some("line") {
                continue;
            }
            let Some(line) = words.next().and_then(|n| n.parse::<u32>().ok()) else { continue };
            let file = token.text.split('"').nth(1).map_or_else(|| starts[starts.len() - 1].1.file.clone(), Into::into);
            // The directive names the line that follows it.
            starts.push((token.offset + token.text.len() + 1, Location { file, line }));
        }
        Places { text: &source.text, starts }
    }

    pub fn of(&self, token: &Token<'_>) -> Location {
        let known = self.starts.partition_point(|(start, _)| *start <= token.offset).max(1) - 1;
        let (start, location) = &self.starts[known];
        let lines = self.text[*start..token.offset.max(*start)].bytes().filter(|&c| c == b'\n').count();
        Location { file: location.file.clone(), line: location.line + lines as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds(text: &str) -> Vec<(Kind, &str)> {
        lex(text).into_iter().filter(|t| t.kind != Kind::Space).map(|t| (t.kind, t.text)).collect()
    }

    #[test]
    fn numbers_end_where_metal_ends_them() {
        for number in ["1", "0x1F", "1.5e-3f", ".5h", "1'000", "0x1p-24f", "3.bf", "1e+5"] {
            assert_eq!(kinds(number), [(Kind::Number, number)]);
        }
        assert_eq!(kinds("1-2").len(), 3);
        assert_eq!(kinds("0xE+1").len(), 3);
    }

    #[test]
    fn comments_and_strings_hide_their_contents() {
        assert_eq!(kinds("// threadgroup\n/* device */"), []);
        assert_eq!(kinds(r#""a // b""#).len(), 1);
        assert_eq!(kinds("a # b").len(), 3);
        assert_eq!(kinds("#define A \\\n 1\nb").len(), 2);
    }

    #[test]
    fn line_directives_move_places() {
        let source = Source { text: "a\n#line 70 \"other.rs\"\nb\nc".into(), file: "k.metal".into(), line: 10 };
        let tokens = lex(&source.text);
        let places = Places::new(&source, &tokens);
        let found: Vec<String> =
            tokens.iter().filter(|t| t.kind == Kind::Identifier).map(|t| places.of(t).to_string()).collect();
        assert_eq!(found, ["k.metal:10", "other.rs:70", "other.rs:71"]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(text in r#"[ -~\n"'/*#\\ü]{0,200}"#) {
            let joined: String = lex(&text).iter().map(|t| t.text).collect();
            prop_assert_eq!(joined, text);
        }
    }
}
