//! Shifts. Metal takes the distance modulo the width of what is shifted; C++ and CUDA leave a distance beyond it undefined.
//! `a << b` becomes `a << metal::shift() * b`, which binds as `b` did.

use super::rewrite::Writer;
use crate::Error;

impl Writer<'_, '_> {
    /// If a shift stands at `i`: copies it. Returns where to go on.
    pub(super) fn shift(&mut self, i: usize, end: usize) -> Result<Option<usize>, Error> {
        let Some(c) = ['<', '>'].into_iter().find(|&c| i + 1 < end && self.twin(i, c)) else { return Ok(None) };
        if self.previous_significant(i).is_some_and(|t| t.text == "operator") || (c == '>' && self.closes_two(i)) {
            return Ok(None);
        }
        self.out.extend([c, c]);
        if !self.tokens.get(i + 2).is_some_and(|t| t.is('=')) {
            self.out += " metal::shift() *";
            return Ok(Some(i + 2));
        }
        let stop = self.tree_end(i + 3, end);
        let by = self.nested(i + 3, stop)?;
        self.out += "= metal::shift() * (";
        self.out += by.trim_start_matches(' ');
        self.out.push(')');
        Ok(Some(stop))
    }

    /// Returns whether the two `>` at `i` close lists of template arguments.
    fn closes_two(&self, i: usize) -> bool {
        let start = (0..i).rev().find(|&n| [';', '{', '}'].iter().any(|&c| self.tokens[n].is(c))).map_or(0, |n| n + 1);
        // Each open parenthesis has an element, which counts the `<` that are open in it.
        let mut open = vec![0u32];
        let mut n = start;
        while n < i {
            let t = &self.tokens[n];
            let innermost = open.last_mut();
            if t.is('(') || t.is('[') {
                open.push(0);
            } else if t.is(')') || t.is(']') {
                open.pop();
                if open.is_empty() {
                    open.push(0);
                }
            } else if self.twin(n, '<') || (t.is('-') && self.tokens[n + 1].is('>')) {
                n += 1;
            } else if let Some(innermost) = innermost {
                let compares = self.tokens[n + 1].is('=');
                *innermost += u32::from(t.is('<') && !compares);
                *innermost = innermost.saturating_sub(u32::from(t.is('>') && !compares));
            }
            n += 1;
        }
        open.last().is_some_and(|&depth| depth >= 2)
    }
}
