//! Conditions that the source itself decides: the code behind them always runs, or never.

use super::Scanner;
use crate::tokens::operator::operator;
use crate::tokens::token::{Bracket, Kind, Token};

/// The depth to which names of constants are followed.
const DEEPEST: usize = 16;

impl Scanner {
    /// Returns whether a condition always holds or never does, where the text says so.
    pub(super) fn truth(&self, condition: &[Token]) -> Option<bool> {
        self.truth_within(condition, DEEPEST)
    }

    fn truth_within(&self, condition: &[Token], depth: usize) -> Option<bool> {
        let depth = depth.checked_sub(1)?;
        for (word, symbol, decides) in [("or", "||", true), ("and", "&&", false)] {
            let parts = split(condition, word, symbol);
            if parts.len() > 1 {
                let answers: Vec<Option<bool>> = parts.iter().map(|part| self.truth_within(part, depth)).collect();
                let is_decided = answers.contains(&Some(decides));
                let is_known = answers.iter().all(Option::is_some);
                return (is_decided || is_known).then_some(is_decided == decides);
            }
        }
        match condition {
            [Token { kind: Kind::Group(Bracket::Parenthesis, inner), .. }] => self.truth_within(inner, depth),
            [not, rest @ ..] if not.is('!') || not.name() == Some("not") => {
                self.truth_within(rest, depth).map(|answer| !answer)
            }
            [Token { kind: Kind::Name(text) | Kind::Literal(text), .. }] => match text.as_str() {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                name => match self.constants.get(name)?.trim_matches(['(', ')', ' ']) {
                    "true" | "1" => Some(true),
                    "false" | "0" => Some(false),
                    _ => None,
                },
            },
            _ => None,
        }
    }

    /// Reads what runs unless `is_never`.
    pub(super) fn unless<R>(&mut self, is_never: bool, scan: impl FnOnce(&mut Self) -> R) -> R {
        let outer = self.is_dead;
        self.is_dead |= is_never;
        let result = scan(self);
        self.is_dead = outer;
        result
    }
}

/// The tokens between the operators of one kind.
fn split<'t>(tokens: &'t [Token], word: &str, symbol: &str) -> Vec<&'t [Token]> {
    let (mut parts, mut begin, mut index) = (Vec::new(), 0, 0);
    while index < tokens.len() {
        let length = match operator(tokens, index) {
            Some((found, length)) if found == symbol => length,
            Some((_, length)) => {
                index += length;
                continue;
            }
            None if tokens[index].name() == Some(word) => 1,
            None => {
                index += 1;
                continue;
            }
        };
        parts.push(&tokens[begin..index]);
        index += length;
        begin = index;
    }
    parts.push(&tokens[begin..]);
    parts
}
