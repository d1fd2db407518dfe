//! Recognises sums of products by their tokens: `+`, `-`, `*`, `<<` and casts between integers, and the leaves of these
//! operations.

use std::ops::Range;

use super::lexer::Kind;
use super::rewrite::Writer;

/// A sum of products, as ranges of tokens.
#[derive(Debug)]
pub(super) enum Tree {
    /// A part that is no sum or product.
    Leaf(Range<usize>),
    /// The name of a variable.
    Name(usize),
    /// A call of a function that may return what wrapped around.
    Call(Range<usize>),
    Group(Box<Tree>),
    Cast(Range<usize>, Box<Tree>),
    /// `+`, `-`, `*`.
    Operation(Box<Tree>, char, Box<Tree>),
    /// `<<` with its distance.
    Shift(Box<Tree>, Range<usize>),
}

/// Integer types as wide as an index, or wider.
pub(super) const INTEGERS: &[&str] =
    &["int", "uint", "long", "ulong", "size_t", "ptrdiff_t", "int32_t", "uint32_t", "int64_t", "uint64_t"];

/// The characters that end a tree.
const ENDS: [char; 4] = [']', ')', ';', ','];

impl Writer<'_, '_> {
    /// A sum, or a shift of one: the tree, and where it ends.
    pub(super) fn sum(&self, from: usize, end: usize) -> Option<(Tree, usize)> {
        let (mut tree, mut at) = self.terms(from, end)?;
        while at < end && self.twin(at, '<') && !self.tokens[at + 2].is('=') {
            let by = self.next_significant(at + 2, end)?;
            let (_, after) = self.terms(by, end)?;
            (tree, at) = (Tree::Shift(Box::new(tree), by..after), self.over_space(after, end));
        }
        if at < end && self.twin(at, '>') {
            let (_, after) = self.terms(self.next_significant(at + 2, end)?, end)?;
            (tree, at) = (Tree::Leaf(from..after), self.over_space(after, end));
        }
        (at >= end || ENDS.iter().any(|&c| self.tokens[at].is(c))).then_some((tree, at))
    }

    fn terms(&self, from: usize, end: usize) -> Option<(Tree, usize)> {
        let (mut tree, mut at) = self.product(from, end)?;
        while at < end {
            let Some(sign) = ['+', '-'].into_iter().find(|&c| self.tokens[at].is(c)) else { break };
            if self.tokens.get(at + 1).is_some_and(|t| t.is(sign) || t.is('=') || t.is('>')) {
                return None;
            }
            let (right, after) = self.product(at + 1, end)?;
            (tree, at) = (Tree::Operation(Box::new(tree), sign, Box::new(right)), after);
        }
        Some((tree, at))
    }

    fn product(&self, from: usize, end: usize) -> Option<(Tree, usize)> {
        let start = self.next_significant(from, end)?;
        let (mut tree, mut at) = self.factor(start, end)?;
        while at < end {
            let Some(sign) = ['*', '/', '%'].into_iter().find(|&c| self.tokens[at].is(c)) else { break };
            let next = self.next_significant(at + 1, end)?;
            let (right, after) = self.factor(next, end)?;
            tree = match sign {
                '*' => Tree::Operation(Box::new(tree), '*', Box::new(right)),
                _ => Tree::Leaf(start..self.back_over_space(after)),
            };
            at = after;
        }
        Some((tree, at))
    }

    fn factor(&self, at: usize, end: usize) -> Option<(Tree, usize)> {
        let token = &self.tokens[at];
        let after = |n: usize| self.over_space(n + 1, end);
        if ['-', '~', '!', '+', '*', '&'].iter().any(|&c| token.is(c)) {
            let operand = self.next_significant(at + 1, end)?;
            let (_, next) = self.factor(operand, end)?;
            return Some((Tree::Leaf(at..self.back_over_space(next)), next));
        }
        match token.kind {
            Kind::Number => Some((Tree::Leaf(at..at + 1), after(at))),
            Kind::Punctuation if token.is('(') => {
                let close = self.closing(at, end)?;
                let inside = self.next_significant(at + 1, close)?;
                let is_type = INTEGERS.contains(&self.tokens[inside].text)
                    && self.next_significant(inside + 1, end).is_some_and(|n| n == close);
                if is_type {
                    let operand = self.next_significant(close + 1, end)?;
                    let (tree, next) = self.factor(operand, end)?;
                    return Some((Tree::Cast(inside..inside + 1, Box::new(tree)), next));
                }
                let group = self.sum(at + 1, close).filter(|(_, stop)| *stop == close);
                match (group, self.postfix_end(close + 1, end)) {
                    (Some((tree, _)), next) if next == close + 1 => Some((Tree::Group(Box::new(tree)), after(close))),
                    (_, next) => Some((Tree::Leaf(at..next), self.over_space(next, end))),
                }
            }
            Kind::Identifier if INTEGERS.contains(&token.text) => {
                let open = self.next_significant(at + 1, end).filter(|&n| self.tokens[n].is('('))?;
                self.called(at..at + 1, open, at, end)
            }
            Kind::Identifier if token.text == "static_cast" => {
                let less = self.next_significant(at + 1, end).filter(|&n| self.tokens[n].is('<'))?;
                let greater = self.angle_end(less, end)?;
                let open = self.next_significant(greater + 1, end).filter(|&n| self.tokens[n].is('('))?;
                let ty = self.next_significant(less + 1, greater)?;
                let integer = INTEGERS.contains(&self.tokens[ty].text)
                    && self.next_significant(ty + 1, end).is_some_and(|n| n == greater);
                if integer {
                    return self.called(ty..ty + 1, open, at, end);
                }
                let next = self.postfix_end(open, end);
                Some((Tree::Leaf(at..next), self.over_space(next, end)))
            }
            Kind::Identifier => {
                let next = self.postfix_end(at + 1, end);
                let open = self.next_significant(at + 1, end).filter(|&n| self.tokens[n].is('('));
                let is_call = open.and_then(|open| self.closing(open, end)).is_some_and(|close| close + 1 == next);
                let tree = match next {
                    next if next == at + 1 => Tree::Name(at),
                    next if is_call && self.returns_sums(token.text) => Tree::Call(at..next),
                    next => Tree::Leaf(at..next),
                };
                Some((tree, self.over_space(next, end)))
            }
            _ => None,
        }
    }

    /// `uint(…)`, with the parenthesis at `open` and all of it from `at` on.
    fn called(&self, ty: Range<usize>, open: usize, at: usize, end: usize) -> Option<(Tree, usize)> {
        let close = self.closing(open, end)?;
        let next = self.postfix_end(close + 1, end);
        let inside = self.sum(open + 1, close).filter(|(_, stop)| *stop == close && next == close + 1);
        let tree = match inside {
            Some((tree, _)) => Tree::Cast(ty, Box::new(tree)),
            None => Tree::Leaf(at..next),
        };
        Some((tree, self.over_space(next, end)))
    }

    /// Returns the place after all of `.a`, `->a`, `[…]`, `(…)`, `::a`, `<…>(` and `++` from `at` on.
    fn postfix_end(&self, mut at: usize, end: usize) -> usize {
        loop {
            let Some(n) = self.next_significant(at, end) else { return at };
            let t = &self.tokens[n];
            let following = |by: usize, c: char| n + by < end && self.tokens[n + by].is(c);
            let next = if t.is('(') {
                self.closing(n, end).map(|close| close + 1)
            } else if t.is('[') {
                self.closing_bracket(n, end).map(|close| close + 1)
            } else if t.is('.') {
                self.next_significant(n + 1, end).map(|name| name + 1)
            } else if (t.is('-') && following(1, '>')) || (t.is(':') && following(1, ':')) {
                self.next_significant(n + 2, end).map(|name| name + 1)
            } else if t.is('<') && !following(1, '<') {
                let close = self.angle_end(n, end);
                let opens = |m: usize| self.tokens[m].is('(') || self.tokens[m].is(':') || self.tokens[m].is('{');
                close.filter(|&close| self.next_significant(close + 1, end).is_some_and(opens)).map(|close| close + 1)
            } else if (t.is('+') && following(1, '+')) || (t.is('-') && following(1, '-')) {
                Some(n + 2)
            } else {
                None
            };
            match next {
                Some(next) => at = next,
                None => return at,
            }
        }
    }

    /// Returns where a sum ends that is a whole operand: at what closes what is open, or at `,`, `;` and operators that
    /// bind less.
    pub(super) fn tree_end(&self, from: usize, end: usize) -> usize {
        let (mut depth, mut arguments) = (0, from);
        (from..end)
            .find(|&n| {
                let t = &self.tokens[n];
                if n < arguments {
                    return false;
                }
                arguments = self.template_arguments(n, end).unwrap_or(arguments);
                depth +=
                    i32::from(t.is('(') || t.is('[') || t.is('{')) - i32::from(t.is(')') || t.is(']') || t.is('}'));
                depth < 0 || (depth == 0 && (t.is(',') || t.is(';')))
            })
            .unwrap_or(end)
    }

    /// The bracket that closes the one at `open`.
    pub(super) fn closing_bracket(&self, open: usize, end: usize) -> Option<usize> {
        let mut depth = 0;
        (open..end).find(|&n| {
            depth += i32::from(self.tokens[n].is('[')) - i32::from(self.tokens[n].is(']'));
            depth == 0
        })
    }

    /// Returns whether the bracket at `open` says how long an array is, or belongs to an attribute.
    pub(super) fn declares_array(&self, open: usize) -> bool {
        let significant = |before: usize| (0..before).rev().find(|&n| self.tokens[n].kind != Kind::Space);
        let Some(name) = significant(open) else { return true };
        if self.tokens[name].is('[') || self.tokens.get(open + 1).is_some_and(|t| t.is('[')) {
            return true;
        }
        let before = significant(name).map(|n| &self.tokens[n]);
        self.tokens[name].kind == Kind::Identifier
            && before.is_some_and(|t| t.kind == Kind::Identifier && !["return", "else", "case"].contains(&t.text))
    }

    pub(super) fn twin(&self, at: usize, c: char) -> bool {
        self.tokens[at].is(c) && self.tokens.get(at + 1).is_some_and(|t| t.is(c))
    }

    fn over_space(&self, from: usize, end: usize) -> usize {
        self.next_significant(from, end).unwrap_or(end)
    }

    fn back_over_space(&self, end: usize) -> usize {
        (0..end).rev().find(|&n| self.tokens[n].kind != Kind::Space).map_or(end, |n| n + 1)
    }
}
