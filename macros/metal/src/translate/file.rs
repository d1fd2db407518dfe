//! The rewrites that only whole files need: instances under a name on the host, function constants, functions with the
//! names of Metal's collectives.

use crate::names::is_collective;
use std::collections::HashSet;
use std::ops::Range;

use super::lexer::{Kind, Token};
use super::rewrite::Writer;
use super::words::ADDRESS_SPACES;
use crate::Error;

impl Writer<'_, '_> {
    /// Writes the translation of such a part if one begins at `i`, and returns where to continue.
    pub(super) fn whole_file(&mut self, i: usize, end: usize) -> Result<Option<usize>, Error> {
        let token = self.tokens[i];
        if token.text == "template" && self.attribute(i + 1, end).is_some() {
            // The entry makes the one instance that runs.
            let stop = (i..end).find(|&n| self.tokens[n].is(';')).map_or(end, |n| n + 1);
            self.keep_lines(i, stop);
            return Ok(Some(stop));
        }
        // A specialisation inside a struct becomes an overload, because some compilers accept specialisations only
        // outside of it.
        if token.text == "template"
            && let Some(open) = self.next_significant(i + 1, end).filter(|&n| self.tokens[n].is('<'))
            && let Some(close) = self.next_significant(open + 1, end).filter(|&n| self.tokens[n].is('>'))
            && self.in_struct(i)
            && self.definitions.iter().any(|d| d.whole.start == i)
        {
            return Ok(Some(close + 1));
        }
        if token.is('[')
            && let Some((name, close)) = self.attribute(i, end)
        {
            let Some(argument) = self.argument(name, end).filter(|_| self.tokens[name].text == "function_constant")
            else {
                // The entry already knows what other attributes say.
                self.keep_lines(i, close);
                return Ok(Some(close));
            };
            let text = self.tokens[argument].text;
            // The index of a parameter is the name of a constant; only a number declares a constant.
            if self.tokens[argument].kind == Kind::Number && !self.in_code() {
                let index = text.parse::<u32>().ok();
                let constants = self.context.constants.unwrap_or_default();
                let value = constants.iter().find(|(known, _)| Some(*known) == index).map(|(_, value)| *value);
                self.out += &format!("= {}", value.unwrap_or_default());
            }
            self.keep_lines(i, close);
            return Ok(Some(close));
        }
        // No compiler knows the values of `half` and `bfloat` beforehand, because classes stand for them here.
        if token.text == "static_assert" {
            let stop = (i..end).find(|&n| self.tokens[n].is(';')).map_or(end, |n| n + 1);
            let small = |n: usize| ["half", "bfloat", "bfloat16_t", "float16_t"].contains(&self.tokens[n].text);
            if (i..stop).any(small) {
                self.keep_lines(i, stop);
                return Ok(Some(stop));
            }
        }
        // The attribute stands behind a member function's parameters.
        if token.text == "threadgroup"
            && self.next_significant(i + 1, end).is_some_and(|n| self.tokens[n].is('{') || self.tokens[n].is(':'))
        {
            return Ok(Some(i + 1));
        }
        self.own_collective(i, end)
    }

    /// Returns whether token `i` stands directly in a struct.
    fn in_struct(&self, i: usize) -> bool {
        let mut depth = 0;
        let open = (0..i).rev().find(|&n| {
            depth += i32::from(self.tokens[n].is('}')) - i32::from(self.tokens[n].is('{'));
            depth < 0
        });
        let Some(open) = open else { return false };
        let head = self.tokens[..open].iter().rev().take_while(|t| ![';', '}', '{', ')'].iter().any(|&c| t.is(c)));
        head.into_iter().any(|t| ["struct", "class", "union"].contains(&t.text))
    }

    /// `[[name ..]]`: where its name stands, and what follows it.
    fn attribute(&self, from: usize, end: usize) -> Option<(usize, usize)> {
        let first = self.next_significant(from, end).filter(|&n| self.tokens[n].is('['))?;
        let second = self.next_significant(first + 1, end).filter(|&n| self.tokens[n].is('['))?;
        let name = self.next_significant(second + 1, end).filter(|&n| self.tokens[n].kind == Kind::Identifier)?;
        let mut depth = 0;
        let close = (first..end).find(|&n| {
            depth += i32::from(self.tokens[n].is('[')) - i32::from(self.tokens[n].is(']'));
            depth == 0
        })?;
        Some((name, close + 1))
    }

    /// The first token in the parenthesis behind an attribute's name.
    fn argument(&self, name: usize, end: usize) -> Option<usize> {
        let open = self.next_significant(name + 1, end).filter(|&n| self.tokens[n].is('('))?;
        self.next_significant(open + 1, end)
    }

    /// A function that has a collective's name takes the number of the call as well, whatever it is.
    fn own_collective(&mut self, i: usize, end: usize) -> Result<Option<usize>, Error> {
        let Some(definition) = self.definitions.iter().find(|d| d.head == i).cloned() else { return Ok(None) };
        let named = |n: usize| {
            let name = self.tokens[n].kind == Kind::Identifier && is_collective(self.tokens[n].text);
            let open = self.next_significant(n + 1, end).filter(|&m| self.tokens[m].is('('));
            open.filter(|_| name)
        };
        let body = (i..definition.whole.end).find(|&n| self.tokens[n].is('{')).unwrap_or(i);
        let Some(open) = (i..body).find_map(named) else { return Ok(None) };
        let Some(close) = self.closing(open, end) else { return Ok(None) };
        // The rest of the head has neither collectives nor threadgroup memory.
        let head: String = (i..close)
            .filter(|&n| !ADDRESS_SPACES.contains(&self.tokens[n].text))
            .map(|n| self.tokens[n].text)
            .collect();
        let template = definition.whole.start != i;
        if template {
            return Err(self.error(
                &self.tokens[i],
                "a template with the name of one of Metal's collectives",
                "rename it",
            ));
        }
        self.out += "template <uint METAL_SITE> ";
        self.out += &head;
        self.out += ", metal::site<METAL_SITE>)";
        Ok(Some(close + 1))
    }
}

/// Special cases of templates of structs that an earlier one equals, except for address spaces.
pub(super) fn repeated_structs(tokens: &[Token<'_>]) -> Vec<Range<usize>> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let significant: Vec<usize> = (0..tokens.len()).filter(|&i| tokens[i].kind != Kind::Space).collect();
    let is = |n: usize, c: char| significant.get(n).is_some_and(|&i| tokens[i].is(c));
    for n in 1..significant.len() {
        if tokens[significant[n]].text != "struct" || !is(n + 2, '<') || !is(n - 1, '>') {
            continue;
        }
        let Some(open) = (n..significant.len()).find(|&m| is(m, '{') || is(m, ';')).filter(|&m| is(m, '{')) else {
            continue;
        };
        let mut depth = 0;
        let close = (open..significant.len()).find(|&m| {
            depth += i32::from(is(m, '{')) - i32::from(is(m, '}'));
            depth == 0
        });
        let starts = (0..n)
            .rev()
            .find(|&m| [';', '}', '{'].iter().any(|&c| is(m, c)) || tokens[significant[m]].kind == Kind::Directive);
        let (Some(close), start) = (close, starts.map_or(0, |m| m + 1)) else { continue };
        let spaces = |i: &&usize| !ADDRESS_SPACES.contains(&tokens[**i].text) && tokens[**i].text != "threadgroup";
        let text: Vec<&str> = significant[start..close].iter().filter(spaces).map(|&i| tokens[i].text).collect();
        if !seen.insert(text.join(" ")) && is(close + 1, ';') {
            found.push(significant[start]..significant[close + 1] + 1);
        }
    }
    found
}
