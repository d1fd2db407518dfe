//! Brackets, and the branches of an `#if` in which they open and close.

use super::{DEEPEST, Frame, Lexer, Opened};
use crate::tokens::token::{Bracket, Kind, Place, Token};

impl Lexer {
    pub(super) fn open_bracket(&mut self, bracket: Bracket) {
        let start = self.position;
        self.advance();
        self.last_line = self.position.logical;
        if self.open.len() == DEEPEST {
            self.mistake(self.since(start), "brackets are nested too deep here", "give the parts names of their own");
        }
        if self.open.len() >= DEEPEST {
            return;
        }
        self.open.push(Frame { opened: Opened::Bracket(bracket, start), tokens: Vec::new() });
    }

    pub(super) fn close_bracket(&mut self, bracket: Bracket) {
        let start = self.position;
        self.advance();
        self.last_line = self.position.logical;
        // A branch behind `#else` closes nothing from before it: the first branch did.
        let inside = self
            .open
            .iter()
            .rposition(|frame| !matches!(frame.opened, Opened::Bracket(..)))
            .map_or(0, |branch| branch + 1);
        let matching = self.open[inside..]
            .iter()
            .rposition(|frame| matches!(frame.opened, Opened::Bracket(opened, _) if opened == bracket));
        match matching {
            Some(matching) => {
                while self.open.len() > inside + matching + 1 {
                    self.close_unfinished();
                }
                self.close();
            }
            None if self.in_alternative() => {}
            None => {
                let message = format!("this `{}` closes nothing", bracket.characters().1);
                self.mistake(self.since(start), message, "remove it, or open it");
            }
        }
    }

    pub(super) fn in_alternative(&self) -> bool {
        self.conditionals.iter().any(|conditional| conditional.in_alternative)
    }

    /// Ends the innermost bracket.
    pub(super) fn close(&mut self) {
        if let Some(Frame { opened: Opened::Bracket(bracket, start), tokens }) = self.open.pop() {
            let place = Place::File { line: start.line, column: start.column, length: 1 };
            let kind = Kind::Group(bracket, tokens);
            let token = Token { kind, joint: false, place, line: start.logical, end_line: self.position.logical };
            if let Some(frame) = self.open.last_mut() {
                frame.tokens.push(token);
            }
        }
    }

    /// Ends the innermost bracket, which the text does not.
    pub(super) fn close_unfinished(&mut self) {
        match self.open.last().map(|frame| frame.opened) {
            Some(Opened::Bracket(bracket, start)) => {
                if !self.in_alternative() {
                    let place = Place::File { line: start.line, column: start.column, length: 1 };
                    let (open, close) = bracket.characters();
                    self.mistake(
                        place,
                        format!("this `{open}` is never closed"),
                        match close {
                            ')' => "close it with `)`",
                            ']' => "close it with `]`",
                            _ => "close it with `}`",
                        },
                    );
                }
                self.close();
            }
            _ => self.close_branch(),
        }
    }

    /// Ends the innermost alternative, brackets included.
    pub(super) fn close_branch(&mut self) {
        while let Some(frame) = self.open.last() {
            match frame.opened {
                Opened::File => return,
                Opened::Bracket(..) => self.close(),
                Opened::Branch(start) => {
                    let tokens = self.open.pop().map(|frame| frame.tokens).unwrap_or_default();
                    let line = self.position.logical;
                    let token = Token {
                        kind: Kind::Branch(tokens),
                        joint: false,
                        place: self.since(start),
                        line: start.logical,
                        end_line: line,
                    };
                    if let Some(frame) = self.open.last_mut() {
                        frame.tokens.push(token);
                    }
                    return;
                }
            }
        }
    }

    /// Ends the innermost alternative and forgets what is in it.
    pub(super) fn drop_branch(&mut self) {
        self.close_branch();
        if let Some(frame) = self.open.last_mut()
            && matches!(frame.tokens.last(), Some(Token { kind: Kind::Branch(_), .. }))
        {
            frame.tokens.pop();
        }
    }
}
