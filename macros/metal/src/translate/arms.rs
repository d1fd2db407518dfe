//! The arms of `c ? a : b` where one is a small float and the other another number: Metal takes them, C++ does not. Each arm is
//! converted to what the two meet in.

use std::fmt::Write as _;

use super::lexer::Kind;
use super::rewrite::Writer;
use crate::Error;

impl Writer<'_, '_> {
    /// The `?` at `i`: copies it with both arms. Returns where to go on; `None` if the arms cannot be distinguished.
    pub(super) fn arms(&mut self, i: usize, end: usize) -> Result<Option<usize>, Error> {
        let Some(colon) = self.arm_end(i + 1, end).filter(|&n| self.tokens[n].is(':')) else { return Ok(None) };
        let Some(stop) = self.arm_end(colon + 1, end).or(Some(end)).filter(|&n| n > colon + 1) else { return Ok(None) };
        let (first, second) = (self.nested(i + 1, colon)?, self.nested(colon + 1, stop)?);
        let types = format!("<decltype({}), decltype({})>", one_line(&first), one_line(&second));
        let _ = write!(self.out, "? metal::arm{types}({first}) : metal::arm{types}({second})");
        Ok(Some(stop))
    }

    /// The `>` of the template arguments that the `<` at `n` opens, of a function that is called or a type.
    pub(super) fn template_arguments(&self, n: usize, end: usize) -> Option<usize> {
        let opens = self.tokens[n].is('<') && n > 0 && self.tokens[n - 1].kind == Kind::Identifier;
        let close = self.angle_end(n, end).filter(|_| opens)?;
        let next = self.next_significant(close + 1, end)?;
        ['(', '{', ':'].iter().any(|&c| self.tokens[next].is(c)).then_some(close)
    }

    /// The `:` that belongs to an open `?`, or what else ends an arm.
    fn arm_end(&self, from: usize, end: usize) -> Option<usize> {
        let (mut depth, mut questions) = (0, 0);
        let mut n = from;
        while n < end {
            let t = &self.tokens[n];
            let scope = t.is(':') && (self.tokens.get(n + 1).is_some_and(|t| t.is(':')) || self.tokens[n - 1].is(':'));
            if let Some(close) = self.template_arguments(n, end) {
                n = close;
            } else if t.is('(') || t.is('[') || t.is('{') {
                depth += 1;
            } else if t.is(')') || t.is(']') || t.is('}') {
                depth -= 1;
                if depth < 0 {
                    return Some(n);
                }
            } else if depth == 0 && (t.is(';') || t.is(',')) {
                return Some(n);
            } else if depth == 0 && t.is('?') {
                questions += 1;
            } else if depth == 0 && t.is(':') && !scope {
                if questions == 0 {
                    return Some(n);
                }
                questions -= 1;
            }
            n += 1;
        }
        None
    }
}

/// The text without comments and line ends.
fn one_line(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join(" ")
}
