//! Operators: adjacent punctuation, read as far as it forms one.

use super::token::{Kind, Token};

/// Every operator of C++ that has several characters, longer ones before those they begin with.
const LONG: &[&str] = &[
    "<<=", ">>=", "...", "++", "--", "->", "::", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "+=", "-=", "*=",
    "/=", "%=", "&=", "|=", "^=", "##",
];

/// The operators of one character.
const SHORT: &[&str] = &["!", "#", "%", "&", "*", "+", ",", "-", ".", "/", ":", ";", "<", "=", ">", "?", "^", "|", "~"];

/// The longest operator that begins at `index`, and how many tokens it takes.
pub(super) fn operator(tokens: &[Token], index: usize) -> Option<(&'static str, usize)> {
    let fits = |operator: &&&str| {
        let length = operator.len();
        operator.chars().enumerate().all(|(offset, character)| {
            let token = tokens.get(index + offset);
            token.is_some_and(|token| token.is(character) && (token.joint || offset + 1 == length))
        })
    };
    let Kind::Punct(_) = tokens.get(index)?.kind else { return None };
    LONG.iter().chain(SHORT).find(fits).map(|operator| (*operator, operator.len()))
}

/// Returns whether `operator` changes what stands to its left by what stands to its right.
pub(super) fn is_compound_assignment(operator: &str) -> bool {
    operator.len() > 1 && operator.ends_with('=') && !matches!(operator, "==" | "!=" | "<=" | ">=")
}

#[cfg(test)]
mod tests {
    use super::super::lexer::lex;
    use super::super::token::from_rust;
    use super::operator;

    #[test]
    fn operators_end_where_a_blank_is() {
        for (text, expected) in [
            ("a - -b", vec!["-", "-"]),
            ("a --b", vec!["--"]),
            ("a---b", vec!["--", "-"]),
            ("a <<= b", vec!["<<="]),
            ("a + = b", vec!["+", "="]),
            ("a->b::c", vec!["->", "::"]),
            ("a & &b", vec!["&", "&"]),
        ] {
            for tokens in [lex(text).0, from_rust(text.parse().unwrap())] {
                let (mut found, mut index) = (Vec::new(), 0);
                while index < tokens.len() {
                    let step = operator(&tokens, index);
                    found.extend(step.map(|(operator, _)| operator));
                    index += step.map_or(1, |(_, length)| length);
                }
                assert_eq!(found, expected, "{text}");
            }
        }
    }
}
