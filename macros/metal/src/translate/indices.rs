//! Integers that become indices. `x[row * n + i]` becomes `x[metal::index(metal::tracked(row) * metal::tracked(n) +
//! …)]`, which also computes what the index would be if nothing wrapped around, and reports a difference. A variable
//! that is set to such a sum remembers that number until it is set to something else. The results of `/`, `%`, `>>`,
//! `&`, `|` and `^` count as they are, so that hashes and random numbers may wrap. A function of the source that
//! returns such a sum passes the number on to the index in which it is called.

use std::fmt::Write as _;
use std::ops::Range;

use super::lexer::Kind;
use super::rewrite::Writer;
use super::sums::{INTEGERS, Tree};
use crate::Error;

/// A variable of which is known what it would be if nothing wrapped around.
#[derive(Debug)]
pub(super) struct Remembered {
    name: String,
    /// The token after which that holds, and how many braces are open there.
    after: usize,
    depth: usize,
}

/// A factor below this makes no product wrap around that would not be out of bounds long before.
const SMALL: u64 = 256;

impl Writer<'_, '_> {
    /// The `[` at `open`, if it takes an index that might wrap around: copies it with the index. Returns where to go on.
    pub(super) fn subscript(&mut self, open: usize, end: usize) -> Result<Option<usize>, Error> {
        let indexed = open > 0 && !self.starts_statement(open) && !self.declares_array(open);
        let Some(close) = self.closing_bracket(open, end).filter(|_| indexed) else { return Ok(None) };
        let Some(index) = self.checked(open + 1, close)? else { return Ok(None) };
        self.out.push('[');
        self.out += &index;
        Ok(Some(close))
    }

    /// The name at `i`, if it is a pointer's to which something is added that might wrap around. Returns where to go on.
    pub(super) fn moved_pointer(&mut self, i: usize, end: usize) -> Result<Option<usize>, Error> {
        if !self.pointers.iter().any(|name| name == self.tokens[i].text) || self.is_member(i) {
            return Ok(None);
        }
        let adds = |n: usize| self.tokens[n].is('+') || self.tokens[n].is('-');
        let Some(sign) = self.next_significant(i + 1, end).filter(|&n| adds(n)) else { return Ok(None) };
        let stop = self.tree_end(sign, end);
        if self.tokens.get(sign + 1).is_some_and(|t| t.is('=')) {
            let Some(by) = self.checked(sign + 2, stop)? else { return Ok(None) };
            let _ = write!(self.out, "{} {}= {by}", self.tokens[i].text, self.tokens[sign].text);
            return Ok(Some(stop));
        }
        // An operator in front could bind to a part of the sum.
        let before = self.previous_significant(i);
        let whole = before.is_none_or(|t| ['(', ',', '=', '{'].iter().any(|&c| t.is(c)) || t.text == "return");
        let Some((tree, _)) = self.sum(i, stop).filter(|(tree, after)| whole && *after == stop && self.risky(tree))
        else {
            return Ok(None);
        };
        let text = self.tracked(&tree)?;
        let _ = write!(self.out, "metal::value_of({text})");
        self.keep_lines_of(i, stop, &text);
        Ok(Some(stop))
    }

    /// If variables are declared from `i` on with values that might wrap around, or are set to such later: has them remembered.
    pub(super) fn remember(&mut self, i: usize, end: usize) -> Result<(), Error> {
        if !self.target.is_host() || !self.in_code() || !self.starts_statement(i) {
            return Ok(());
        }
        let Some((names, stop)) = self.integers(i, end) else { return Ok(()) };
        for (name, value) in names {
            let tree =
                value.clone().and_then(|value| self.sum(value.start, value.end).filter(|(_, at)| *at == value.end));
            let tree = tree.map(|(tree, _)| tree).filter(|tree| self.risky(tree));
            let variable = self.tokens[name].text;
            let number = match (tree, value) {
                (Some(Tree::Call(_)), _) => " = metal::last_returned()".to_owned(),
                (Some(tree), Some(value)) if self.pure(&value) => {
                    format!(" = metal::remember<decltype({variable})>({})", self.tracked(&tree)?)
                }
                _ if self.is_set_later(name, stop) => "{}".to_owned(),
                _ => continue,
            };
            self.after.push((stop, one_line(&format!(" metal::Unwrapped {variable}_unwrapped_{number};"))));
            self.remembered.push(Remembered { name: variable.to_owned(), after: stop, depth: self.braces.len() });
        }
        Ok(())
    }

    /// Returns whether the variable declared at `name` is set behind `stop`, in its block, to what might wrap around.
    fn is_set_later(&self, name: usize, stop: usize) -> bool {
        let mut depth = 0i32;
        let inside = |&n: &usize| {
            depth += i32::from(self.tokens[n].is('{')) - i32::from(self.tokens[n].is('}'));
            depth >= 0
        };
        let mut places = (stop..self.tokens.len()).take_while(inside);
        places.any(|n| {
            let is_set = self.tokens[n].text == self.tokens[name].text && !self.is_member(n);
            let multiplies =
                |tree: &Tree| !matches!(tree, Tree::Leaf(range) if self.tokens[range.start].kind == Kind::Number);
            let wraps = |(value, operation): (Range<usize>, Option<char>)| {
                let whole = self.sum(value.start, value.end).filter(|(_, after)| *after == value.end);
                whole.is_some_and(|(tree, _)| self.risky(&tree) || (operation == Some('*') && multiplies(&tree)))
            };
            is_set && self.set_to(n, self.tokens.len()).is_some_and(wraps)
        })
    }

    /// `name = ..;`, `name *= ..;`, `name += ..;` from `i` on: where that value stands, and the sign in front of `=`.
    fn set_to(&self, i: usize, end: usize) -> Option<(Range<usize>, Option<char>)> {
        let before = self.previous_significant(i);
        if !self.starts_statement(i) && !before.is_some_and(|t| t.is(')') || t.text == "else") {
            return None;
        }
        let sign = self.next_significant(i + 1, end)?;
        let is = |n: usize, c: char| self.tokens.get(n).is_some_and(|t| t.is(c));
        let operation = ['+', '-', '*'].into_iter().find(|&c| is(sign, c));
        let equals = sign + usize::from(operation.is_some());
        if !is(equals, '=') || is(equals + 1, '=') {
            return None;
        }
        let stop = self.tree_end(equals + 1, end);
        is(stop, ';').then_some((equals + 1..stop, operation))
    }

    /// The variable at `i`, if it is remembered and set to another value. Returns where to go on.
    pub(super) fn assignment(&mut self, i: usize, end: usize) -> Result<Option<usize>, Error> {
        if !self.target.is_host() || !self.in_code() || !self.is_remembered(i) || self.is_member(i) {
            return Ok(None);
        }
        let Some((value, operation)) = self.set_to(i, end) else { return Ok(None) };
        let name = self.tokens[i].text;
        let mut text = match self.sum(value.start, value.end).filter(|(_, after)| *after == value.end) {
            Some((tree, _)) => self.tracked(&tree)?,
            // A value that is not a sum counts as it is, and nothing is remembered about it.
            None => format!("metal::tracked({})", self.nested(value.start, value.end)?),
        };
        if let Some(operation) = operation {
            text = format!("metal::tracked({name}, {name}_unwrapped_) {operation} ({text})");
        }
        let _ = write!(self.out, "{name} = metal::set<decltype({name})>({name}_unwrapped_, {text})");
        self.keep_lines_of(i, value.end, &text);
        Ok(Some(value.end))
    }

    /// The `return` at `i`, if it is a function's of integers and what it returns might wrap around. Returns where to go on.
    pub(super) fn returned(&mut self, i: usize, end: usize) -> Result<Option<usize>, Error> {
        if !self.target.is_host() || self.tokens[i].text != "return" {
            return Ok(None);
        }
        let function = self.returning.iter().rfind(|function| function.body.contains(&i));
        let Some(ty) = function.map(|function| function.ty.clone()) else { return Ok(None) };
        let stop = self.tree_end(i + 1, end);
        let Some((tree, _)) = self.sum(i + 1, stop).filter(|(tree, after)| *after == stop && self.risky(tree)) else {
            return Ok(None);
        };
        let text = self.tracked(&tree)?;
        let _ = write!(self.out, "return metal::returned<{ty}>({text})");
        self.keep_lines_of(i, stop, &text);
        Ok(Some(stop))
    }

    /// Returns whether a function of this name may return what wrapped around.
    pub(super) fn returns_sums(&self, name: &str) -> bool {
        self.returning.iter().any(|function| function.name == name)
            || self.context.returning.iter().any(|function| function == name)
    }

    /// The value that a loop's variable begins with, if the variable is part of an index and the value might wrap around.
    pub(super) fn first_turn(&mut self, open: usize, close: usize) {
        let Some(first) = self.next_significant(open + 1, close) else { return };
        let Some((names, _)) = self.integers(first, close) else { return };
        for (name, value) in names.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            let indexes = |n: usize| {
                let close = self.tokens[n].is('[').then(|| self.closing_bracket(n, self.tokens.len())).flatten();
                let tree = close.and_then(|close| Some(self.sum(n + 1, close)?.0));
                tree.is_some_and(|tree| self.mentions(&tree, self.tokens[name].text))
            };
            if (close..self.loop_end(close)).any(indexes) {
                self.beginnings.push(value);
            }
        }
    }

    /// Returns where a loop ends whose head ends at `close`.
    fn loop_end(&self, close: usize) -> usize {
        let mut depth = 0i32;
        let ends = |&n: &usize| {
            let t = &self.tokens[n];
            depth += i32::from(t.is('{') || t.is('(')) - i32::from(t.is('}') || t.is(')'));
            depth <= 0 && (t.is(';') || t.is('}'))
        };
        (close + 1..self.tokens.len()).find(ends).unwrap_or(self.tokens.len())
    }

    /// `[const] int a = …, b;` from `i` on: each name with the range of its value, if it has one, and the semicolon.
    #[allow(clippy::type_complexity, reason = "two things, named in the documentation")]
    fn integers(&self, i: usize, end: usize) -> Option<(Vec<(usize, Option<Range<usize>>)>, usize)> {
        let mut at = i;
        while ["const", "thread"].contains(&self.tokens[at].text) {
            at = self.next_significant(at + 1, end)?;
        }
        if !INTEGERS.contains(&self.tokens[at].text) && self.tokens[at].text != "auto" {
            return None;
        }
        let mut names = Vec::new();
        loop {
            let name = self.next_significant(at + 1, end).filter(|&n| self.tokens[n].kind == Kind::Identifier)?;
            let after = self.next_significant(name + 1, end)?;
            let stop = self.declarator_end(after, end)?;
            if self.tokens[after].is('=') && !self.tokens[after + 1].is('=') {
                names.push((name, Some(after + 1..stop)));
            } else if after == stop {
                names.push((name, None));
            }
            if self.tokens[stop].is(';') {
                return (!names.is_empty()).then_some((names, stop));
            }
            at = stop;
        }
    }

    /// The tokens from `from` to `to` as an index that is looked at; none if it cannot wrap around, or is no sum of products.
    pub(super) fn checked(&mut self, from: usize, to: usize) -> Result<Option<String>, Error> {
        let Some((tree, _)) = self.sum(from, to).filter(|(tree, after)| *after == to && self.risky(tree)) else {
            return Ok(None);
        };
        let text = self.tracked(&tree)?;
        let before = self.out.len();
        self.keep_lines_of(from, to, &text);
        let lines = self.out.split_off(before);
        Ok(Some(format!("metal::index({text}){lines}")))
    }

    /// Ends the lines of the tokens that `text` does not end itself.
    fn keep_lines_of(&mut self, from: usize, to: usize, text: &str) {
        let lines: usize = self.tokens[from..to].iter().map(|t| t.text.matches('\n').count()).sum();
        let missing = lines.saturating_sub(text.matches('\n').count());
        self.out.extend(std::iter::repeat_n('\n', missing));
    }

    fn tracked(&mut self, tree: &Tree) -> Result<String, Error> {
        Ok(match tree {
            Tree::Leaf(range) => {
                let text = self.nested(range.start, range.end)?;
                let significant = range.clone().filter(|&n| self.tokens[n].kind != Kind::Space);
                let literal = significant.count() == 1 && self.tokens[range.start].kind == Kind::Number;
                if literal { text } else { format!("metal::tracked({text})") }
            }
            Tree::Name(i) => {
                let name = self.tokens[*i].text;
                match self.is_remembered(*i) {
                    true => format!("metal::tracked({name}, {name}_unwrapped_)"),
                    false => format!("metal::tracked({name})"),
                }
            }
            Tree::Call(range) => {
                let text = self.nested(range.start, range.end)?;
                format!("metal::from_call((metal::forget_returned(), {text}))")
            }
            Tree::Group(inner) => format!("({})", self.tracked(inner)?),
            Tree::Cast(ty, inner) => {
                let ty: String = self.tokens[ty.clone()].iter().map(|t| t.text).collect();
                format!("metal::tracked_as<{}>({})", ty.trim(), self.tracked(inner)?)
            }
            Tree::Operation(left, sign, right) => format!("{} {sign} {}", self.tracked(left)?, self.tracked(right)?),
            Tree::Shift(left, by) => {
                format!("({} << metal::shift() * ({}))", self.tracked(left)?, self.nested(by.start, by.end)?)
            }
        })
    }

    /// Returns whether it is known what the variable at `i` would be if nothing wrapped around.
    fn is_remembered(&self, i: usize) -> bool {
        self.remembered.iter().any(|known| known.after < i && known.name == self.tokens[i].text)
    }

    /// Forgets the variables of a block, at its end.
    pub(super) fn forget(&mut self) {
        let depth = self.braces.len();
        self.remembered.retain(|known| known.depth <= depth);
    }

    /// Returns whether what the tree computes may wrap around, if its leaves are of moderate size.
    fn risky(&self, tree: &Tree) -> bool {
        let small = |tree: &Tree| match tree {
            Tree::Leaf(range) if self.tokens[range.start].kind == Kind::Number => {
                let digits: String = self.tokens[range.start].text.chars().take_while(char::is_ascii_digit).collect();
                digits.parse::<u64>().is_ok_and(|n| n < SMALL)
            }
            _ => false,
        };
        match tree {
            Tree::Leaf(_) => false,
            Tree::Call(_) => true,
            Tree::Name(i) => self.is_remembered(*i),
            Tree::Group(inner) | Tree::Cast(_, inner) => self.risky(inner),
            Tree::Operation(left, '*', right) => {
                !(small(left) || small(right)) || self.risky(left) || self.risky(right)
            }
            Tree::Operation(left, _, right) => self.risky(left) || self.risky(right),
            Tree::Shift(..) => true,
        }
    }

    /// Returns whether a variable's own value is part of the sum.
    fn mentions(&self, tree: &Tree, name: &str) -> bool {
        match tree {
            Tree::Leaf(_) | Tree::Call(_) => false,
            Tree::Name(i) => self.tokens[*i].text == name,
            Tree::Group(inner) | Tree::Cast(_, inner) | Tree::Shift(inner, _) => self.mentions(inner, name),
            Tree::Operation(left, _, right) => self.mentions(left, name) || self.mentions(right, name),
        }
    }

    /// Returns whether tokens can be computed twice: nothing is set, and nothing called but casts.
    fn pure(&self, range: &Range<usize>) -> bool {
        range.clone().all(|n| {
            let t = &self.tokens[n];
            let twin = |c: char| t.is(c) && self.tokens.get(n + 1).is_some_and(|t| t.is(c));
            let word = self.tokens[..n].iter().rfind(|t| t.kind != Kind::Space);
            let calls = t.is('(')
                && word.is_some_and(|w| (w.kind == Kind::Identifier && !INTEGERS.contains(&w.text)) || w.is('>'));
            !(calls || t.is('=') || twin('+') || twin('-'))
        })
    }
}

/// The text on one line, without comments.
fn one_line(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join(" ")
}

/// A function of integers that returns a product or a shift, which might wrap around.
#[derive(Debug)]
pub(super) struct Returning {
    pub name: String,
    ty: String,
    body: Range<usize>,
}

/// All such functions that a text defines.
pub(super) fn returning(tokens: &[super::lexer::Token<'_>]) -> Vec<Returning> {
    let places: Vec<usize> = (0..tokens.len()).filter(|&n| tokens[n].kind != Kind::Space).collect();
    let is = |at: usize, c: char| places.get(at).is_some_and(|&n| tokens[n].is(c));
    let closing = |open: usize, pair: (char, char)| {
        let mut depth = 0i32;
        (open..places.len()).find(|&at| {
            depth += i32::from(is(at, pair.0)) - i32::from(is(at, pair.1));
            depth == 0
        })
    };
    let function = |at: usize| {
        let [ty, name] = [at, at + 1].map(|at| places.get(at).map(|&n| &tokens[n]));
        let (ty, name) = (ty.filter(|ty| INTEGERS.contains(&ty.text))?, name.filter(|t| t.kind == Kind::Identifier)?);
        let parameters = is(at + 2, '(').then(|| closing(at + 2, ('(', ')'))).flatten()?;
        let end = is(parameters + 1, '{').then(|| closing(parameters + 1, ('{', '}'))).flatten()?;
        let body = parameters + 1..end;
        let sums = |at: usize| is(at, '*') || (is(at, '<') && is(at + 1, '<'));
        let body = body.clone().any(sums).then(|| places[body.start]..places[body.end])?;
        Some(Returning { name: name.text.to_owned(), ty: ty.text.to_owned(), body })
    };
    (0..places.len()).filter_map(function).collect()
}

/// Names that are declared as pointers somewhere in a text.
pub(super) fn pointers(tokens: &[super::lexer::Token<'_>]) -> Vec<String> {
    let significant: Vec<_> = tokens.iter().filter(|t| t.kind != Kind::Space).collect();
    let mut names = Vec::new();
    for n in 2..significant.len() {
        let star = significant[n - 1].is('*') || (significant[n - 1].text == "const" && significant[n - 2].is('*'));
        let starts = significant[..n].iter().rposition(|t| [';', '{', '}', '(', ','].iter().any(|&c| t.is(c)));
        let spaced = || {
            let words = &significant[starts.map_or(0, |s| s + 1)..n];
            words.iter().any(|t| ["device", "constant", "threadgroup", "thread"].contains(&t.text))
        };
        if significant[n].kind == Kind::Identifier && star && spaced() {
            names.push(significant[n].text.to_owned());
        }
    }
    names
}
