//! Declarations that begin in the middle of a statement: the `;` before them is missing.

use super::neighbours::ends_in_directive;
use super::token::{Bracket, Kind, Name, Token};
use crate::names::{is_keyword, is_type};

/// Returns the types that begin a declaration on the line after an expression that nothing ends.
pub(super) fn find(tokens: &[Token]) -> Vec<Name> {
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        if let Kind::Group(_, inner) | Kind::Branch(inner) = &token.kind {
            found.extend(find(inner));
        }
        let starts_line = index > 0 && tokens[index - 1].end_line < token.line;
        if starts_line && begins_declaration(&tokens[index..]) && ends_expression(&tokens[..index]) {
            found.extend(token.to_name());
        }
    }
    found
}

/// Returns whether a type, the name of a variable, and what may follow it stand here.
fn begins_declaration(tokens: &[Token]) -> bool {
    let [first, second, third, ..] = tokens else { return false };
    let follows =
        third.is('=') || third.is(';') || third.is(',') || matches!(third.kind, Kind::Group(Bracket::Square, _));
    first.name().is_some_and(is_type) && second.name().is_some_and(is_value) && follows
}

/// Returns whether a number, an index, a call or a variable behind an operator ends here, outside directives.
fn ends_expression(tokens: &[Token]) -> bool {
    let Some((last, before)) = tokens.split_last() else { return false };
    if ends_in_directive(tokens) {
        return false;
    }
    let behind = before.last();
    match &last.kind {
        Kind::Literal(_) => true,
        // Behind a name it is an index, otherwise perhaps an attribute.
        Kind::Group(Bracket::Square, _) => behind.and_then(Token::name).is_some_and(is_value),
        Kind::Group(Bracket::Parenthesis, _) => {
            behind.and_then(Token::name).is_some_and(|name| is_value(name) || is_type(name))
        }
        Kind::Name(name) => {
            is_value(name) && behind.is_some_and(|token| "=+-*/%&|^?:.".chars().any(|sign| token.is(sign)))
        }
        _ => false,
    }
}

/// Returns whether `name` may be that of a variable or function. A name in capitals may be a macro, which ends by itself.
fn is_value(name: &str) -> bool {
    !is_keyword(name) && !is_type(name) && !name.starts_with("__") && name.chars().any(char::is_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::lexer::lex;

    fn found(text: &str) -> Vec<String> {
        find(&lex(text).0).into_iter().map(|name| name.text).collect()
    }

    #[test]
    fn a_declaration_behind_an_open_statement_is_found() {
        for text in [
            "float a = simd_sum(s)\nfloat b = 1.0f;",
            "float a = 1.0f\nfloat4 b;",
            "float a = x[i]\nint b[4];",
            "y[i] = a * b\nuint c = 3;",
            "if (i < 3) { float a = float(x[i])\n  half b = 2.0h; }",
        ] {
            assert_eq!(found(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn what_ends_or_goes_on_is_not() {
        for text in [
            "float a = simd_sum(s);\nfloat b = 1.0f;",
            "for (int i = 0; i < 3; ++i)\n  float b = 1.0f;",
            "if (a)\n  float b = 1.0f; else\n  float c = 2.0f;",
            "#pragma METAL fp contract(off)\nfloat b = 1.0f;",
            "#define N 3\nfloat b = 1.0f;",
            "UNROLL(4)\nfloat b = 1.0f;",
            "[[maybe_unused]]\nfloat b = 1.0f;",
            "__attribute__((unused))\nfloat b = 1.0f;",
            "const\nfloat b = 1.0f;",
            "threadgroup\nfloat b[4];",
            "float a = x[i] *\nfloat(b);",
            "inline float f(float a)\n{ return a; }\nfloat b = 1.0f;",
            "case 1:\nfloat b = 1.0f;",
            "float a,\n  b = 1.0f;",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }
}
