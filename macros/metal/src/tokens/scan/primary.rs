//! The parts of expressions: names, members, elements, brackets.

use super::operand::{Cursor, Operand, element};
use super::scopes::{Level, Local, Sink};
use super::{Access, AccessKind, Scanner};
use crate::names::{is_attribute, is_keyword};
use crate::tokens::neighbours::{is_scope, skip_template};
use crate::tokens::operator::operator;
use crate::tokens::token::{self, Bracket, Kind, Name, Place, Token};

impl Scanner {
    pub(super) fn postfix(&mut self, cursor: &mut Cursor<'_>) -> Operand {
        let mut operand = self.primary(cursor);
        let mut is_member = false;
        let mut is_element = false;
        loop {
            if is_element {
                self.part_of_element(cursor, &operand);
            }
            if is_member && matches!(cursor.kind(), Some(Kind::Group(Bracket::Square, _))) {
                // A field may be a pointer, so a store through it goes to another place.
                self.scopes.redirect(&operand.uses, Sink::Used);
                (operand.local, operand.uses) = (None, Vec::new());
            }
            match cursor.tokens.get(cursor.index).map(|token| &token.kind) {
                Some(Kind::Group(Bracket::Square, inner)) => {
                    cursor.index += 1;
                    self.index(inner);
                    self.element_of(&operand);
                    is_element = operand.is_bare && operand.level == Level::Pointer && operand.local.is_none();
                    self.expression(inner);
                    operand = element(operand);
                }
                // These are calls such as `x.load(1)` and `f(1)(2)`.
                Some(Kind::Group(Bracket::Parenthesis, inner)) => {
                    cursor.index += 1;
                    self.arguments(None, inner);
                    operand = Operand::default();
                }
                Some(Kind::Punct('.')) if self.member_follows(cursor, 1) => {
                    cursor.index += 2;
                    is_member = true;
                    is_element = false;
                    operand.is_bare &= operand.level == Level::Value;
                }
                Some(Kind::Punct('-')) => match operator(cursor.tokens, cursor.index) {
                    Some(("->", _)) if self.member_follows(cursor, 2) => {
                        if operand.is_bare && operand.level == Level::Pointer && operand.local.is_none() {
                            self.part_of_element(cursor, &operand);
                        }
                        cursor.index += 3;
                        operand = element(operand);
                    }
                    Some(("--", _)) => {
                        cursor.index += 2;
                        self.change(&operand);
                    }
                    _ => return operand,
                },
                Some(Kind::Punct('+')) => match operator(cursor.tokens, cursor.index) {
                    Some(("++", _)) => {
                        cursor.index += 2;
                        self.change(&operand);
                    }
                    _ => return operand,
                },
                _ => return operand,
            }
        }
    }

    pub(super) fn member_follows(&self, cursor: &Cursor<'_>, ahead: usize) -> bool {
        cursor.tokens.get(cursor.index + ahead).is_some_and(|member| member.name().is_some())
    }

    pub(super) fn primary(&mut self, cursor: &mut Cursor<'_>) -> Operand {
        let Some(token) = cursor.tokens.get(cursor.index) else { return Operand::default() };
        match &token.kind {
            Kind::Literal(_) => {
                cursor.index += 1;
                Operand::default()
            }
            Kind::Group(Bracket::Parenthesis, inner) => {
                cursor.index += 1;
                self.parenthesis(inner)
            }
            Kind::Group(Bracket::Brace, inner) => {
                cursor.index += 1;
                self.arguments(None, inner);
                Operand::default()
            }
            Kind::Group(Bracket::Square, inner) => {
                cursor.index += 1;
                self.lambda(token.place, inner, cursor);
                Operand::default()
            }
            Kind::Punct('\'') => {
                self.found.quotes.push(token.place);
                // The name behind the quote belongs to it.
                cursor.index += 2;
                Operand::default()
            }
            Kind::Name(_) => self.named(cursor),
            Kind::Punct(_) | Kind::Branch(_) => Operand::default(),
        }
    }

    /// `(a)`, `(a, b)`
    pub(super) fn parenthesis(&mut self, inner: &[Token]) -> Operand {
        let mut cursor = Cursor { tokens: inner, index: 0 };
        let operand = self.assignment(&mut cursor);
        if cursor.index == inner.len() {
            return operand;
        }
        self.hand_on(&operand);
        self.expression(&inner[cursor.index..]);
        Operand::default()
    }

    /// `[captures](parameters) -> type { .. }`, or an attribute such as `[[unroll]]`.
    pub(super) fn lambda(&mut self, place: Place, captures: &[Token], cursor: &mut Cursor<'_>) {
        if matches!(captures, [Token { kind: Kind::Group(Bracket::Square, _), .. }]) {
            return;
        }
        let body = cursor.tokens[cursor.index..]
            .iter()
            .position(|token| matches!(token.kind, Kind::Group(Bracket::Brace, _)))
            .map(|offset| cursor.index + offset);
        let Some(body) = body else { return };
        self.found.lambdas.push(place);
        self.scopes.enter();
        if let Some(Kind::Group(Bracket::Parenthesis, parameters)) = cursor.kind() {
            self.parameters(&parameters.clone());
        }
        if let Kind::Group(_, inner) = &cursor.tokens[body].kind {
            self.with_sink(Sink::Used, |scanner| scanner.statements(inner));
        }
        self.scopes.leave();
        cursor.index = body + 1;
    }

    /// A name, with its path and template arguments, and the call if it is one.
    pub(super) fn named(&mut self, cursor: &mut Cursor<'_>) -> Operand {
        let tokens = cursor.tokens;
        let mut last = cursor.index;
        // These are paths such as `metal::exp` and `numeric_limits<float>::max`.
        loop {
            let behind = skip_template(tokens, last + 1);
            if is_scope(tokens, behind) && tokens.get(behind + 2).is_some_and(|next| next.name().is_some()) {
                self.note_doubles(&tokens[last..behind]);
                last = behind + 2;
            } else {
                break;
            }
        }
        let is_path = last > cursor.index;
        // `is_same<T, float>::value`: what has template arguments is a type, and not a namespace.
        let is_template = tokens.get(cursor.index + 1).is_some_and(|next| next.is('<'));
        if let Some(first) = tokens[cursor.index].to_name().filter(|_| is_path && !is_template) {
            self.namespace(&first);
        }
        let Some(name) = tokens[last].to_name() else { return Operand::default() };
        self.note_doubles(&tokens[last..=last]);
        let behind = skip_template(tokens, last + 1);
        let local = self.scopes.find(&name.text).filter(|_| !is_path);
        let is_known = local.is_some() || self.arrays.contains(&name.text);
        match tokens.get(behind).map(|token| &token.kind) {
            Some(Kind::Group(Bracket::Parenthesis, inner)) if behind == last + 1 || !is_known => {
                let path = token::names(&tokens[cursor.index..last]);
                cursor.index = behind + 1;
                if path.iter().all(|segment| matches!(*segment, "metal" | "fast" | "precise")) {
                    self.count_arguments(&name, inner);
                }
                self.note_doubles(&tokens[last + 1..behind]);
                self.call(name, &tokens[last + 1..behind], inner, is_path)
            }
            Some(Kind::Group(Bracket::Brace, inner)) if !is_known && !is_keyword(&name.text) => {
                cursor.index = behind + 1;
                self.arguments(None, inner);
                if is_path { Operand::default() } else { self.value(name) }
            }
            _ => {
                cursor.index = last + 1;
                match local {
                    _ if is_path || is_keyword(&name.text) => Operand::default(),
                    Some(local) => {
                        self.part_of_local(cursor, local, &name);
                        self.local(local, &name)
                    }
                    None => {
                        self.component(cursor, &name);
                        let is_index = matches!(cursor.kind(), Some(Kind::Group(Bracket::Square, _)));
                        if is_index && !self.arrays.contains(&name.text) {
                            self.found.indexed.push(name.clone());
                        }
                        self.value(name)
                    }
                }
            }
        }
    }

    /// Notes words that Metal does not have.
    pub(super) fn note_doubles(&mut self, tokens: &[Token]) {
        for token in tokens {
            let is_double =
                |name: &str| name.strip_prefix("double").is_some_and(|lanes| matches!(lanes, "" | "2" | "3" | "4"));
            if token.name().is_some_and(is_double) {
                self.found.doubles.push(token.place);
            }
        }
    }

    pub(super) fn component(&mut self, cursor: &Cursor<'_>, name: &Name) {
        let is_member = cursor.tokens.get(cursor.index).is_some_and(|token| token.is('.'));
        let member = cursor.tokens.get(cursor.index + 1).and_then(Token::to_name).filter(|_| is_member);
        let Some(member) = member else { return };
        if is_attribute(&name.text) {
            self.found.components.push((name.clone(), member));
        } else if self.arrays.contains(&name.text) {
            self.found.members.push((name.clone(), member));
        }
    }

    /// A name that no variable of the text has.
    pub(super) fn value(&mut self, name: Name) -> Operand {
        let level = if self.arrays.contains(&name.text) { Level::Pointer } else { Level::Value };
        let access = self.access(name, None);
        Operand { accesses: vec![access], level, is_bare: true, ..Operand::default() }
    }

    pub(super) fn access(&mut self, name: Name, through: Option<String>) -> usize {
        let is_dead = self.is_dead;
        self.found.accesses.push(Access {
            name,
            kind: AccessKind::Read,
            through,
            is_used: false,
            is_dead,
            one_of: None,
        });
        self.sinks.push(self.current_sink());
        self.sinks.len() - 1
    }

    pub(super) fn local(&mut self, local: usize, name: &Name) -> Operand {
        let uses = vec![self.scopes.read(local, self.current_sink())];
        let Local { roots, level, is_atomic, .. } = self.scopes.locals[local].clone();
        let accesses = roots
            .into_iter()
            .map(|root| self.access(Name { text: root, place: name.place }, Some(name.text.clone())))
            .collect();
        Operand { accesses, local: Some(local), uses, level, is_bare: true, is_atomic, place: Some(name.place) }
    }
}
