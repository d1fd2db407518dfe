//! Calls of helpers in which threads meet. Two calls lead to one operation, and threads that reach it through different
//! calls do not meet. So each call is noted while it lasts: `f(a)` becomes `f((metal::call_path<N>(), a))`.

use super::functions::{Definition, definitions};
use super::lexer::{Kind, Token, lex};
use super::rewrite::{Close, Writer};
use crate::names::is_collective;

/// The functions of a header that hold a collective, or call one that does.
pub(super) fn meeting_places(header: &str) -> Vec<String> {
    let tokens = lex(header);
    let functions: Vec<(&str, Definition)> =
        definitions(&tokens).into_iter().filter_map(|d| Some((name_of(&tokens, &d)?, d))).collect();
    let mut found: Vec<&str> = Vec::new();
    loop {
        let calls = |d: &Definition| {
            let words = tokens[d.whole.clone()].iter().filter(|t| t.kind == Kind::Identifier);
            words
                .skip_while(|t| Some(t.text) != name_of(&tokens, d))
                .skip(1)
                .any(|t| is_collective(t.text) || found.contains(&t.text))
        };
        let more: Vec<&str> =
            functions.iter().filter(|(name, d)| !found.contains(name) && calls(d)).map(|(name, _)| *name).collect();
        if more.is_empty() {
            return found.into_iter().map(str::to_owned).collect();
        }
        found.extend(more);
    }
}

/// The word in front of a definition's parameters.
fn name_of<'t>(tokens: &[Token<'t>], definition: &Definition) -> Option<&'t str> {
    let significant = || (definition.head..definition.whole.end).filter(|&n| tokens[n].kind != Kind::Space);
    let names = significant().zip(significant().skip(1));
    names
        .filter(|&(n, next)| tokens[n].kind == Kind::Identifier && tokens[next].is('('))
        .map(|(n, _)| tokens[n].text)
        .next()
}

impl Writer<'_, '_> {
    /// If the name at `i` calls such a helper: copies it up to its first argument. Returns where to go on,
    /// and how its parenthesis closes.
    pub(super) fn call_of_helper(&mut self, i: usize, end: usize) -> Option<(usize, Close)> {
        let token = self.tokens[i];
        if !self.target.is_host()
            || !self.context.meeting.iter().any(|name| name == token.text)
            || !(self.in_code() || self.context.is_macro)
        {
            return None;
        }
        let declared = self
            .previous_significant(i)
            .is_some_and(|t| t.kind == Kind::Identifier && !["return", "else", "do", "case"].contains(&t.text));
        let mut open = self.next_significant(i + 1, end)?;
        if self.tokens[open].is('<') {
            open = self.next_significant(self.angle_end(open, end)? + 1, end)?;
        }
        let argument = self.next_significant(open + 1, end)?;
        if declared || !self.tokens[open].is('(') || self.tokens[argument].is('{') {
            return None;
        }
        let between: String = self.tokens[i + 1..=open].iter().map(|t| t.text).collect();
        if !self.tokens[argument].is(')') {
            let stop = self.tree_end(open + 1, end);
            self.first_arguments.push(stop);
            self.out += token.text;
            self.out += &between;
            self.out += "(metal::call_path<__COUNTER__>(), ";
            return Some((open + 1, Close::Plain));
        }
        if self.is_member(i) || self.previous_significant(i).is_some_and(|t| t.is(':')) {
            return None;
        }
        self.out += "(metal::call_path<__COUNTER__>(), ";
        self.out += token.text;
        self.out += &between;
        Some((argument, Close::Twice))
    }
}
