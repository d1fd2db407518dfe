//! Answers questions about the neighbours of a token, for readers without a grammar.

use super::operator::operator;
use super::token::{Bracket, Kind, Token};

/// `metal::vec`: the last segment is the type.
pub(super) fn skip_path(tokens: &[Token], mut index: usize, last: &mut Option<String>) -> usize {
    while is_scope(tokens, index) {
        match tokens.get(index + 2).and_then(Token::name) {
            Some(name) => {
                *last = Some(name.to_owned());
                index += 3;
            }
            None => break,
        }
    }
    index
}

/// Returns the place after the template arguments that begin at `start`, or `start` if none do.
pub(super) fn skip_template(tokens: &[Token], start: usize) -> usize {
    if !tokens.get(start).is_some_and(|token| token.is('<')) {
        return start;
    }
    let mut depth = 0;
    // `f<N - 1>(x)` calls a function, and `a < b - c > d` is a comparison.
    let mut must_be_called = false;
    for (offset, token) in tokens[start..].iter().enumerate() {
        match token.kind {
            Kind::Punct('<') => depth += 1,
            Kind::Punct('>') => {
                depth -= 1;
                if depth == 0 {
                    let behind = start + offset + 1;
                    let calls =
                        || matches!(tokens.get(behind).map(|t| &t.kind), Some(Kind::Group(Bracket::Parenthesis, _)));
                    return if must_be_called && !calls() { start } else { behind };
                }
            }
            // This is `device float&`, and not `a < b && c > d`.
            Kind::Punct('&') if tokens.get(start + offset + 1).is_some_and(|next| next.is('>') || next.is(',')) => {}
            Kind::Punct('-' | '%') => must_be_called = true,
            Kind::Punct(punct) if !matches!(punct, ',' | ':' | '*' | '+' | '/') => return start,
            _ => {}
        }
    }
    start
}

/// Returns whether the last token is part of a directive: a `#` stands before it on its line.
pub(super) fn ends_in_directive(tokens: &[Token]) -> bool {
    let Some((last, before)) = tokens.split_last() else { return false };
    before.iter().rev().take_while(|token| token.line == last.line).any(|token| token.is('#'))
}

/// `::` at `index`.
pub(super) fn is_scope(tokens: &[Token], index: usize) -> bool {
    operator(tokens, index).is_some_and(|(found, _)| found == "::")
}
