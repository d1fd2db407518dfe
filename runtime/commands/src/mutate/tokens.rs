//! The tokens of a Metal source, with their places.

/// The kinds of token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name or a word of the language.
    Word,
    /// A number.
    Number,
    /// An operator or a bracket.
    Symbol,
}

/// One token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'t> {
    /// The kind of the token.
    pub kind: Kind,
    /// The byte at which it begins.
    pub start: usize,
    /// The text of the token, as written.
    pub text: &'t str,
}

impl Token<'_> {
    /// Returns the byte behind the token.
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Returns whether a value can end with it, so that an operator behind it has a left side.
    pub fn ends_operand(&self) -> bool {
        match self.kind {
            Kind::Number => true,
            Kind::Word => !["return", "case", "else"].contains(&self.text),
            Kind::Symbol => [")", "]"].contains(&self.text),
        }
    }

    /// Returns whether it names a type of Metal, with which a declaration begins.
    pub fn is_type(&self) -> bool {
        const TYPES: [&str; 13] = [
            "float", "half", "bfloat", "int", "uint", "short", "ushort", "long", "ulong", "char", "uchar", "bool",
            "auto",
        ];
        let stem = self.text.trim_end_matches(|letter: char| letter.is_ascii_digit());
        self.kind == Kind::Word && TYPES.contains(&stem)
    }
}

/// Operators of more than one letter, the longest first.
const OPERATORS: [&str; 21] = [
    "<<=", ">>=", "->", "++", "--", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "+=", "-=", "*=", "/=", "%=", "&=",
    "|=", "::",
];

/// The tokens of `text`, without comments, strings and lines of the preprocessor.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(letter) = text[at..].chars().next() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") || (letter == '#' && begins_line(text, at)) {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if letter == '"' {
            rest[1..].find('"').map_or(rest.len(), |end| end + 2)
        } else if letter.is_whitespace() {
            letter.len_utf8()
        } else {
            let (kind, length) = if letter.is_ascii_digit() || (letter == '.' && second_is_digit(rest)) {
                (Kind::Number, number(rest))
            } else if letter.is_alphabetic() || letter == '_' {
                let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
                (Kind::Word, rest.find(|letter| !is_part(letter)).unwrap_or(rest.len()))
            } else {
                let known = OPERATORS.iter().find(|operator| rest.starts_with(**operator));
                (Kind::Symbol, known.map_or(letter.len_utf8(), |operator| operator.len()))
            };
            tokens.push(Token { kind, start: at, text: &rest[..length] });
            length
        };
        at += length;
    }
    tokens
}

fn begins_line(text: &str, at: usize) -> bool {
    text[..at].rsplit('\n').next().is_none_or(|before| before.trim().is_empty())
}

fn second_is_digit(rest: &str) -> bool {
    rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit)
}

fn number(rest: &str) -> usize {
    let mut before = ' ';
    let is_part = |letter: char| {
        let signed = (letter == '+' || letter == '-') && matches!(before, 'e' | 'E') && !rest.starts_with("0x");
        before = letter;
        letter.is_ascii_alphanumeric() || letter == '.' || signed
    };
    let mut is_part = is_part;
    rest.find(|letter| !is_part(letter)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_directives_are_no_tokens() {
        let text = "#pragma unroll\nx += 1e-5f * y[i]; // gone\n/* gone */ a->b";
        let found: Vec<&str> = tokens(text).iter().map(|token| token.text).collect();
        assert_eq!(found, ["x", "+=", "1e-5f", "*", "y", "[", "i", "]", ";", "a", "->", "b"]);
    }
}
