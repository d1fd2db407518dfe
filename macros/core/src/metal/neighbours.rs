//! What stands around a token: the questions that reading a text without a grammar asks of its neighbours.

use super::names::{is_keyword, is_type};
use super::scan::AccessKind;
use super::token::{Bracket, Kind, Token};

/// Where the directive that begins at `index` ends: with its line.
pub(super) fn line_end(tokens: &[Token], index: usize) -> usize {
    let line = tokens[index].line;
    tokens[index..].iter().position(|token| token.line != line).map_or(tokens.len(), |length| index + length)
}

pub(super) fn begins_with(tokens: &[Token], words: &[&str]) -> bool {
    tokens.first().and_then(Token::name).is_some_and(|name| words.contains(&name))
}

pub(super) fn directive_starts(tokens: &[Token], index: usize) -> bool {
    index == 0 || tokens[index - 1].end_line < tokens[index].line
}

/// Whether brackets behind `before` hold the parameters of a function or lambda.
pub(super) fn opens_parameters(before: Option<&Token>) -> bool {
    match before.map(|token| &token.kind) {
        Some(Kind::Name(name)) => !is_keyword(name) && !is_type(name),
        Some(Kind::Group(Bracket::Square, _)) => true,
        _ => false,
    }
}

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

pub(super) fn skip_template(tokens: &[Token], start: usize) -> usize {
    if !tokens.get(start).is_some_and(|token| token.is('<')) {
        return start;
    }
    let mut depth = 0;
    for (offset, token) in tokens[start..].iter().enumerate() {
        match token.kind {
            Kind::Punct('<') => depth += 1,
            Kind::Punct('>') => {
                depth -= 1;
                if depth == 0 {
                    return start + offset + 1;
                }
            }
            Kind::Punct(punct) if !matches!(punct, ',' | ':' | '*' | '+' | '/') => return start,
            _ => {}
        }
    }
    start
}

/// `::` at `index`.
pub(super) fn is_scope(tokens: &[Token], index: usize) -> bool {
    let colon = |index: usize| tokens.get(index).is_some_and(|token| token.is(':'));
    colon(index) && colon(index + 1)
}

/// Whether the name at `index` is behind `.`, `->` or `::`.
pub(super) fn is_member(tokens: &[Token], index: usize) -> bool {
    let punct = |back: usize| match index.checked_sub(back).map(|index| &tokens[index].kind) {
        Some(Kind::Punct(punct)) => Some(*punct),
        _ => None,
    };
    punct(1) == Some('.')
        || (punct(1) == Some('>') && punct(2) == Some('-'))
        || (punct(1) == Some(':') && punct(2) == Some(':'))
}

/// `++name` or `--name`.
pub(super) fn is_doubled(tokens: &[Token], index: usize) -> bool {
    match (index.checked_sub(2).map(|index| &tokens[index].kind), &tokens[index - 1].kind) {
        (Some(Kind::Punct(first)), Kind::Punct(second)) => first == second,
        _ => false,
    }
}

/// A whole array given to a function or put into a pointer: `f(x, ..)`, `x + offset`.
pub(super) fn is_handed_on(tokens: &[Token], index: usize, next: usize) -> bool {
    let ends = match tokens.get(next).map(|token| &token.kind) {
        None => true,
        Some(Kind::Punct(punct)) => matches!(punct, ',' | '+' | ';'),
        _ => false,
    };
    let begins = match index.checked_sub(1).map(|index| &tokens[index].kind) {
        None => true,
        Some(Kind::Punct(punct)) => matches!(punct, ',' | '=' | '+'),
        _ => false,
    };
    ends && begins
}

/// What the operator at `index` does to what stands before it.
pub(super) fn assignment(tokens: &[Token], index: usize) -> Option<AccessKind> {
    let punct = |offset: usize| match tokens.get(index + offset).map(|token| &token.kind) {
        Some(Kind::Punct(punct)) => Some(*punct),
        _ => None,
    };
    match (punct(0)?, punct(1), punct(2)) {
        ('=', Some('='), _) => None,
        ('=', _, _) => Some(AccessKind::Store),
        ('+' | '-' | '*' | '/' | '%' | '&' | '|' | '^', Some('='), _) => Some(AccessKind::Accumulate),
        ('<', Some('<'), Some('=')) | ('>', Some('>'), Some('=')) => Some(AccessKind::Accumulate),
        ('+', Some('+'), _) | ('-', Some('-'), _) => Some(AccessKind::Accumulate),
        _ => None,
    }
}
