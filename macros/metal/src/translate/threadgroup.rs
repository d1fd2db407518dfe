//! Declarations in threadgroup memory.

use std::fmt::Write as _;

use super::lexer::Kind;
use super::rewrite::{Target, Writer};
use crate::Error;

impl Writer<'_, '_> {
    /// The word `threadgroup` at `i`: the start of an array's declaration, or part of a pointer's or reference's type.
    /// Returns where to go on.
    pub(super) fn threadgroup(&mut self, i: usize, end: usize) -> Result<usize, Error> {
        let token = self.tokens[i];
        let starts_statement = self.starts_statement(i);
        let stop = self.declaration_end(i + 1, end);
        let indirect =
            (i + 1..stop).any(|n| self.depth_free(i + 1, n) && (self.tokens[n].is('*') || self.tokens[n].is('&')));
        // The word may be the argument of a macro that writes a function for each address space.
        let alone = self.next_significant(i + 1, end).is_some_and(|n| self.tokens[n].is(')') || self.tokens[n].is(','));
        if indirect || (alone && !starts_statement) {
            if self.target.is_check() {
                self.out += token.text;
            }
            return Ok(i + 1);
        }
        let help = "write `threadgroup TYPE NAME[SIZE];` as a statement of its own in the kernel's body";
        if !starts_statement || stop >= end || !self.tokens[stop].is(';') {
            return Err(self.error(&token, "this use of `threadgroup` is not understood", help));
        }
        if self.context.is_header && (self.context.constants.is_none() || !self.in_code()) {
            return Err(self.error(&token, "threadgroup memory is declared outside the kernel's body", help));
        }
        if self.target.is_check() {
            self.out += "METAL_THREADGROUP";
            return Ok(i + 1);
        }
        self.declaration(i + 1, stop)?;
        Ok(stop + 1)
    }

    /// The first `;`, `=`, or unmatched `)`, `>` or `,` … that ends what began at `from`.
    fn declaration_end(&self, from: usize, end: usize) -> usize {
        let mut depth = 0i32;
        for n in from..end {
            let t = &self.tokens[n];
            if t.is('(') || t.is('[') || t.is('<') {
                depth += 1;
            } else if t.is(')') || t.is(']') || t.is('>') {
                depth -= 1;
                if depth < 0 {
                    return n;
                }
            } else if depth == 0 && (t.is(';') || t.is('=') || t.is('{')) {
                return n;
            }
        }
        end
    }

    /// Returns whether token `n` stands outside all brackets opened since `from`; parentheses of `(&a)[4]` do not
    /// count.
    fn depth_free(&self, from: usize, n: usize) -> bool {
        let mut depth = 0i32;
        for t in &self.tokens[from..n] {
            depth += i32::from(t.is('[') || t.is('<')) - i32::from(t.is(']') || t.is('>'));
        }
        depth == 0
    }

    /// `TYPE a[4], b;` -> for each name a reference to memory of the emulator.
    fn declaration(&mut self, from: usize, stop: usize) -> Result<(), Error> {
        let mut parts: Vec<(usize, usize)> = Vec::new();
        let (mut depth, mut start) = (0i32, from);
        for n in from..stop {
            let t = &self.tokens[n];
            depth += i32::from(t.is('[') || t.is('<') || t.is('(')) - i32::from(t.is(']') || t.is('>') || t.is(')'));
            if depth == 0 && t.is(',') {
                parts.push((start, n));
                start = n + 1;
            }
        }
        parts.push((start, stop));
        let before = self.out.len();
        let mut element = String::new();
        for (number, (start, stop)) in parts.into_iter().enumerate() {
            let bracket = (start..stop).find(|&n| self.tokens[n].is('[')).unwrap_or(stop);
            let name = (start..bracket).rev().find(|&n| self.tokens[n].kind != Kind::Space);
            let Some(name) = name.filter(|&n| self.tokens[n].kind == Kind::Identifier) else {
                let token = self.tokens[from - 1];
                return Err(self.error(&token, "a threadgroup declaration without a name", "name the array"));
            };
            if number == 0 {
                element = self.nested(start, name)?.replace('\n', " ");
            }
            if element.trim().is_empty() {
                let token = self.tokens[name];
                return Err(self.error(
                    &token,
                    "a threadgroup declaration without a type",
                    "write `threadgroup TYPE NAME[SIZE];`",
                ));
            }
            let dimensions = self.nested(bracket, stop)?.replace('\n', " ");
            if self.target == Target::Cuda {
                let _ = write!(self.out, "__shared__ alignas(16) {element} {}{dimensions};", self.tokens[name].text);
                continue;
            }
            let (id, name) = (self.arrays, self.tokens[name].text);
            self.arrays += 1;
            let _ = write!(
                self.out,
                "typedef {element} metal_array_{id}_{dimensions}; metal_array_{id}_& {name} = \
                 metal::threadgroup_array<metal_array_{id}_>({id}, \"{name}\");"
            );
        }
        debug_assert!(!self.out[before..].contains('\n'));
        self.keep_lines(from, stop);
        Ok(())
    }

    /// Ends as many lines as the tokens that were replaced.
    pub(super) fn keep_lines(&mut self, from: usize, to: usize) {
        for token in &self.tokens[from..to] {
            self.out.extend(token.text.matches('\n'));
        }
    }
}
