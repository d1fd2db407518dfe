//! Lexes lines that begin with `#`.

use super::{Conditional, Frame, Lexer, Opened};

impl Lexer {
    /// A line that begins with `#`. Those that choose between branches are followed, `#define` and `#include` are kept as
    /// tokens, the rest says nothing about names.
    pub(super) fn directive(&mut self) {
        let start = self.position;
        self.advance();
        self.advance_while(|character| matches!(character, ' ' | '\t'));
        let name = self.position;
        self.advance_while(|character| character.is_ascii_alphanumeric() || character == '_');
        let (place, name) = (self.since(start), self.text_since(name));
        match name.as_str() {
            "if" | "ifdef" | "ifndef" => {
                let rest = self.characters[self.position.index..].iter().take_while(|character| **character != '\n');
                let condition: String = rest.collect();
                let is_dead = name == "if" && matches!(condition.trim(), "0" | "false");
                self.conditionals.push(Conditional { place, in_alternative: is_dead, is_dead });
                if is_dead {
                    self.open.push(Frame { opened: Opened::Branch(start), tokens: Vec::new() });
                }
            }
            "else" | "elif" | "elifdef" | "elifndef" => match self.conditionals.last_mut() {
                Some(Conditional { is_dead: true, .. }) => {
                    self.drop_branch();
                    if let Some(conditional) = self.conditionals.last_mut() {
                        (conditional.is_dead, conditional.in_alternative) = (false, false);
                    }
                }
                Some(conditional) => {
                    let was = std::mem::replace(&mut conditional.in_alternative, true);
                    if was {
                        self.close_branch();
                    }
                    self.open.push(Frame { opened: Opened::Branch(start), tokens: Vec::new() });
                }
                None => self.mistake(place, format!("this `#{name}` belongs to no `#if`"), "begin with `#if`"),
            },
            "endif" => match self.conditionals.pop() {
                Some(Conditional { is_dead: true, .. }) => self.drop_branch(),
                Some(conditional) if conditional.in_alternative => self.close_branch(),
                Some(_) => {}
                None => self.mistake(place, "this `#endif` belongs to no `#if`", "begin with `#if`"),
            },
            "define" | "undef" | "include" => {
                self.position = start;
                let depth = self.open.len();
                while self.skip_blanks_of_line(start.logical) {
                    self.token();
                }
                // A macro may hold half of a bracket.
                while self.open.len() > depth {
                    self.close();
                }
                return;
            }
            _ => {}
        }
        while self.skip_blanks_of_line(start.logical) {
            self.advance();
        }
    }

    /// Skips blanks; whether anything is left on the logical line.
    pub(super) fn skip_blanks_of_line(&mut self, logical: usize) -> bool {
        self.skip_blanks() && self.position.logical == logical
    }
}
