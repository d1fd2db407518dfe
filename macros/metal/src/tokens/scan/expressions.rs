//! Expressions: their operators.

use super::operand::{Cursor, Operand};
use super::scopes::{Level, Sink};
use super::{AccessKind, Scanner};
use crate::tokens::operator::is_compound_assignment;
use crate::tokens::token::{Bracket, Kind, Token};

const BINARY: &[&str] =
    &["+", "-", "*", "/", "%", "==", "!=", "<", ">", "<=", ">=", "&&", "||", "&", "|", "^", "<<", ">>"];
/// Words that stand between operands.
pub(in crate::tokens) const WORDS: &[&str] =
    &["and", "or", "xor", "bitand", "bitor", "not_eq", "and_eq", "or_eq", "xor_eq"];

impl Scanner {
    /// Reads all of `tokens`; what is no expression is stepped over.
    pub(super) fn expression(&mut self, tokens: &[Token]) {
        let mut cursor = Cursor { tokens, index: 0 };
        while cursor.index < tokens.len() {
            let before = cursor.index;
            let operand = self.assignment(&mut cursor);
            let ends = cursor.take(|operator| matches!(operator, "," | ";" | ":")).is_some();
            if !ends && cursor.index < tokens.len() {
                // The value is not followed any further.
                self.hand_on(&operand);
            }
            if cursor.index == before {
                self.step_over(&tokens[before]);
                cursor.index += 1;
            }
        }
    }

    pub(super) fn step_over(&mut self, token: &Token) {
        match &token.kind {
            Kind::Branch(inner) => self.branch(inner),
            Kind::Group(_, inner) => self.expression(inner),
            Kind::Punct('\'') => self.found.quotes.push(token.place),
            _ => {}
        }
    }

    /// `a = b`, or what stands for a value where `,` ends it. What is nested too deep is left out.
    pub(super) fn assignment(&mut self, cursor: &mut Cursor<'_>) -> Operand {
        let read = self.deeper(|scanner| scanner.assignment_inside(cursor));
        read.unwrap_or_else(|| {
            cursor.index = cursor.tokens.len();
            Operand::default()
        })
    }

    pub(super) fn assignment_inside(&mut self, cursor: &mut Cursor<'_>) -> Operand {
        let left = self.conditional(cursor);
        let Some(found) = cursor.take(|operator| operator == "=" || is_compound_assignment(operator)) else {
            return left;
        };
        let owner = left.local.filter(|local| !self.scopes.locals[*local].is_indirect);
        let sink = owner.map_or(Sink::Used, Sink::Local);
        let right = self.with_sink(sink, |scanner| scanner.assignment(cursor));
        if left.level == Level::Element && left.local.is_none() {
            self.number(&right, false);
        }
        if found == "=" {
            self.store(&left, &right);
        } else {
            self.change(&left);
        }
        Operand::default()
    }

    pub(super) fn conditional(&mut self, cursor: &mut Cursor<'_>) -> Operand {
        let begin = cursor.index;
        let condition = self.binary(cursor);
        let truth = self.truth(&cursor.tokens[begin..cursor.index]);
        let question = cursor.index;
        if cursor.take(|operator| operator == "?").is_none() {
            return condition;
        }
        self.alternative_missing(cursor.tokens[question].place, &cursor.tokens[cursor.index..]);
        let mut chosen = self.unless(truth == Some(false), |scanner| scanner.assignment(cursor));
        if cursor.take(|operator| operator == ":").is_some() {
            let other = self.unless(truth == Some(true), |scanner| scanner.assignment(cursor));
            if other.level != Level::Value {
                chosen.level = if chosen.level == Level::Pointer { Level::Pointer } else { other.level };
            }
            chosen.accesses.extend(other.accesses);
            chosen.uses.extend(other.uses);
            chosen.is_atomic |= other.is_atomic;
        }
        Operand { local: None, is_bare: false, ..chosen }
    }

    /// Operands with operators between them. Of pointers, adding to one and taking from it leaves a pointer.
    pub(super) fn binary(&mut self, cursor: &mut Cursor<'_>) -> Operand {
        let first = self.unary(cursor);
        let mut pointers = Vec::new();
        let mut additive = true;
        let mut several = false;
        let keep = |operand: Operand, pointers: &mut Vec<Operand>| {
            if operand.level == Level::Pointer {
                pointers.push(operand);
            }
        };
        let mut operand = first;
        let mut compared = None;
        loop {
            let place = cursor.tokens.get(cursor.index).map(|token| token.place);
            let word = matches!(cursor.kind(), Some(Kind::Name(name)) if WORDS.contains(&name.as_str()));
            let found = if word {
                cursor.index += 1;
                Some("and")
            } else {
                cursor.take(|operator| BINARY.contains(&operator))
            };
            let Some(found) = found else { break };
            several = true;
            additive &= matches!(found, "+" | "-" | "*" | "/" | "%");
            self.compared_twice(&mut compared, found, place);
            let is_product = matches!(found, "*" | "/" | "%");
            if found == "*" {
                self.power(cursor);
            }
            if is_product {
                self.number(&operand, false);
            }
            keep(operand, &mut pointers);
            operand = self.unary(cursor);
            if is_product {
                self.number(&operand, false);
            }
        }
        if !several {
            return operand;
        }
        keep(operand, &mut pointers);
        match (additive, pointers.len()) {
            (true, 1) => Operand { is_bare: false, local: None, ..pointers.remove(0) },
            _ => Operand::default(),
        }
    }

    pub(super) fn unary(&mut self, cursor: &mut Cursor<'_>) -> Operand {
        let read = self.deeper(|scanner| scanner.unary_inside(cursor));
        read.unwrap_or_else(|| {
            cursor.index = cursor.tokens.len();
            Operand::default()
        })
    }

    pub(super) fn unary_inside(&mut self, cursor: &mut Cursor<'_>) -> Operand {
        if let Some(found) = cursor.take(|operator| matches!(operator, "++" | "--" | "*" | "&" | "-" | "+" | "!" | "~"))
        {
            let operand = self.unary(cursor);
            return match found {
                "++" | "--" => {
                    self.change(&operand);
                    operand
                }
                "*" if operand.level != Level::Value => {
                    self.element_of(&operand);
                    Operand { level: Level::Element, is_bare: false, ..operand }
                }
                "*" => Operand { is_bare: false, ..operand },
                "&" if operand.level == Level::Element => Operand { level: Level::Pointer, is_bare: false, ..operand },
                "&" => {
                    // A variable may be read wherever its address goes.
                    self.scopes.redirect(&operand.uses, Sink::Used);
                    self.mark(&operand, AccessKind::Address);
                    Operand::default()
                }
                "-" | "~" => {
                    self.number(&operand, false);
                    Operand::default()
                }
                _ => Operand::default(),
            };
        }
        if let Some(Kind::Name(name)) = cursor.kind()
            && matches!(name.as_str(), "not" | "compl")
        {
            cursor.index += 1;
            self.unary(cursor);
            return Operand::default();
        }
        if let Some(Kind::Group(Bracket::Parenthesis, inner)) = cursor.tokens.get(cursor.index).map(|token| &token.kind)
            && self.is_cast(inner, cursor.tokens.get(cursor.index + 1))
        {
            cursor.index += 1;
            self.note_doubles(inner);
            return self.cast(inner, |scanner| scanner.unary(cursor));
        }
        self.postfix(cursor)
    }
}
