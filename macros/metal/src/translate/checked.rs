//! The rewrites that only the static check needs: types and casts that clang can judge.

use std::fmt::Write as _;

use super::lexer::Kind;
use super::rewrite::Writer;
use super::words::ADDRESS_SPACES;
use crate::names::is_vector;

impl Writer<'_, '_> {
    /// Copies a word for the check; a vector type that is called becomes a function that counts components.
    pub(super) fn checked_word(&mut self, i: usize, end: usize) -> usize {
        let called = || {
            let open = self.next_significant(i + 1, end).filter(|&n| self.tokens[n].is('<'))?;
            let mut depth = 0;
            let close = (open..end).find(|&n| {
                depth += i32::from(self.tokens[n].is('<')) - i32::from(self.tokens[n].is('>'));
                depth == 0
            })?;
            self.next_significant(close + 1, end).filter(|&n| self.tokens[n].is('('))
        };
        // `float4 v(1, 2, 3, 4);` becomes `float4 v = float4(1, 2, 3, 4);`.
        if !self.context.is_header && is_vector(self.tokens[i].text) && self.starts_statement(i) {
            let name = self.next_significant(i + 1, end).filter(|&n| self.tokens[n].kind == Kind::Identifier);
            let open = name.and_then(|n| self.next_significant(n + 1, end)).filter(|&n| self.tokens[n].is('('));
            if let (Some(name), Some(open)) = (name, open) {
                let ty = self.tokens[i].text;
                let _ = write!(self.out, "{ty} {} = {ty}", self.tokens[name].text);
                self.keep_lines(i, open);
                return open;
            }
        }
        let makes_vector = self.tokens[i].text == "vec" && called().is_some();
        self.out += if makes_vector { "make_vec" } else { self.tokens[i].text };
        i + 1
    }

    /// Copies a parenthesis for the check; that of a cast to a pointer becomes a cast that knows address spaces.
    pub(super) fn checked_cast(&mut self, open: usize, end: usize) -> usize {
        let close = self.closing(open, end);
        let cast = close.filter(|&close| {
            let inside = &self.tokens[open + 1..close];
            let significant = || inside.iter().filter(|t| t.kind != Kind::Space);
            let spaced = significant().any(|t| ADDRESS_SPACES.contains(&t.text) || t.text == "threadgroup");
            let ends_in_star = significant().next_back().is_some_and(|t| t.is('*'));
            let no_call = inside.iter().all(|t| !t.is('('));
            let operand = self.next_significant(close + 1, end).is_some_and(|n| {
                let t = &self.tokens[n];
                t.kind == Kind::Identifier || t.is('(') || t.is('&')
            });
            spaced && ends_in_star && no_call && operand
        });
        let Some(close) = cast else {
            self.out.push('(');
            return open + 1;
        };
        let ty: String = self.tokens[open + 1..close].iter().map(|t| t.text).collect();
        let _ = write!(self.out, "metal::cast_to<{ty}>() % ");
        close + 1
    }
}
