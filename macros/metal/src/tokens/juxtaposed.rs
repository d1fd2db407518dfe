//! Two operands side by side, between which an operator or a `;` is missing.

use super::mistake::Mistake;
use super::neighbours::ends_in_directive;
use super::scan::WORDS;
use super::token::{self, Bracket, Kind, Token};
use crate::names::is_keyword;

/// Returns a mistake for each number or element that another operand follows.
pub(super) fn find(tokens: &[Token]) -> Vec<Mistake> {
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        if let Kind::Group(_, inner) | Kind::Branch(inner) = &token.kind {
            found.extend(find(inner));
        }
        let Some((left, before)) = tokens[..index].split_last() else { continue };
        if let (Some(right), Some(left)) = (begins_operand(token), ends_operand(left, before.last()))
            && !ends_in_directive(&tokens[..index])
        {
            found.push(Mistake::without_headers(
                token.place,
                format!("nothing stands between `{left}` and `{right}`"),
                "write an operator between them, or `;` where a statement ends",
            ));
        }
    }
    found
}

/// Returns the operand that certainly ends here: a number, or an element of an array.
fn ends_operand(last: &Token, before: Option<&Token>) -> Option<String> {
    match &last.kind {
        Kind::Literal(text) if is_number(text) => Some(text.clone()),
        // Attributes have two pairs of brackets, and no name before them.
        Kind::Group(Bracket::Square, inner)
            if !matches!(inner.as_slice(), [Token { kind: Kind::Group(Bracket::Square, _), .. }]) =>
        {
            let array = before.and_then(Token::name).filter(|name| !is_keyword(name))?;
            Some(format!("{array}[{}]", token::join(inner)))
        }
        _ => None,
    }
}

/// Returns the name or the number that begins an operand here.
fn begins_operand(token: &Token) -> Option<&str> {
    match &token.kind {
        Kind::Literal(text) if is_number(text) => Some(text),
        Kind::Name(name) if !WORDS.contains(&name.as_str()) && !name.starts_with("__") => Some(name),
        _ => None,
    }
}

fn is_number(literal: &str) -> bool {
    literal.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::lexer::lex;

    fn found(text: &str) -> Vec<String> {
        find(&lex(text).0).into_iter().map(|mistake| mistake.found).collect()
    }

    #[test]
    fn operands_without_an_operator_are_found() {
        for (text, expected) in [
            ("float v = 2.0f x[i];", "nothing stands between `2.0f` and `x`"),
            ("y[i] = x[i] w[j];", "nothing stands between `x[i]` and `w`"),
            ("y[i] = x[i + 1] 2.0f;", "nothing stands between `x[i + 1]` and `2.0f`"),
            ("y[i] = x[i]\ny[j] = 0;", "nothing stands between `x[i]` and `y`"),
            ("if (a) { y[i] = 3 4; }", "nothing stands between `3` and `4`"),
        ] {
            assert_eq!(found(text), [expected], "{text}");
        }
    }

    #[test]
    fn what_belongs_together_is_not() {
        for text in [
            "y[i] = x[i] and w[i] or 3 xor 4;",
            "[[unroll]] for (;;) {}",
            "threadgroup float a[4] __attribute__((aligned(16)));",
            "#pragma unroll 4\nfor (;;) {}",
            "T operator[](uint i) const { return a[i]; }",
            "float a[4] = {1, 2}; float b[2][3];",
            "case 1: return; case 2: break;",
            "float v = 0x1p-3f + 1e-5f + 1.h + .5f;",
            "if (x[i] > 0) y[i] = 3; else y[i] = 4;",
            "static_assert(N < 3, \"a\" \"b\");",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }
}
