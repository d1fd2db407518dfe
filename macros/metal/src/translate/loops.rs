//! Loops count their turns, so that one that never ends is found: `while (a)` becomes `while (metal::turn() && (a))`,
//! and the third part of a `for` counts first.

use super::lexer::Kind;
use super::rewrite::{Close, Writer};

impl Writer<'_, '_> {
    /// If a loop's word stands at `i`: copies it with its parenthesis, and says what to add later. Returns where to go on.
    pub(super) fn loop_head(&mut self, i: usize, end: usize, parentheses: &mut Vec<Close>) -> Option<usize> {
        let word = self.tokens[i].text;
        if word != "for" && word != "while" {
            return None;
        }
        let open = self.next_significant(i + 1, end).filter(|&n| self.tokens[n].is('('))?;
        let close = self.closing(open, end)?;
        let between: String = self.tokens[i..=open].iter().map(|t| t.text).collect();
        if word == "while" {
            if self.declares(open + 1, close) {
                return None;
            }
            self.out += &between;
            self.out += "metal::turn() && (";
            parentheses.push(Close::Twice);
        } else {
            let (_, second) = self.semicolons(open, close)?;
            self.first_turn(open, close);
            self.out += &between;
            let empty = self.next_significant(second + 1, close).is_none();
            let counts = if empty { " metal::turn()" } else { " metal::turn()," };
            self.after.push((second, counts.to_owned()));
            parentheses.push(Close::Plain);
        }
        Some(open + 1)
    }

    /// The two semicolons of a `for`; none if it runs over a range.
    fn semicolons(&self, open: usize, close: usize) -> Option<(usize, usize)> {
        let mut depth = 0;
        let mut found = (open + 1..close).filter(|&n| {
            let t = &self.tokens[n];
            depth += i32::from(t.is('(') || t.is('{')) - i32::from(t.is(')') || t.is('}'));
            depth == 0 && t.is(';')
        });
        Some((found.next()?, found.next()?))
    }

    /// Returns whether a condition declares a variable, as in `while (int n = next())`.
    fn declares(&self, from: usize, close: usize) -> bool {
        let words = (from..close).filter(|&n| self.tokens[n].kind != Kind::Space).take(2);
        words.filter(|&n| self.tokens[n].kind == Kind::Identifier).count() == 2
    }
}
