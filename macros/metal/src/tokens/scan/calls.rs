//! Calls, casts, and the uses of their arguments.

use super::expressions::WORDS;
use super::operand::{Cursor, Operand};
use super::scopes::{Level, Sink};
use super::{AccessKind, Scanner};
use crate::names::{is_function, is_keyword, is_type};
use crate::tokens::token::{Bracket, Kind, Name, Token};

/// Keywords with which a type begins.
const TYPE_WORDS: &[&str] = &[
    "const",
    "constant",
    "device",
    "signed",
    "struct",
    "thread",
    "threadgroup",
    "typename",
    "unsigned",
    "void",
    "volatile",
];

impl Scanner {
    /// Returns whether brackets with `inner` before `next` are a cast.
    pub(super) fn is_cast(&self, inner: &[Token], next: Option<&Token>) -> bool {
        let Some(first) = inner.first().and_then(Token::name) else { return false };
        let plain = |token: &Token| match &token.kind {
            Kind::Name(_) | Kind::Literal(_) => true,
            Kind::Punct(punct) => matches!(punct, '*' | '&' | '<' | '>' | ':' | ','),
            _ => false,
        };
        let Some(next) = next.filter(|_| inner.iter().all(plain)) else { return false };
        let is_operand = match &next.kind {
            Kind::Name(name) => !WORDS.contains(&name.as_str()),
            Kind::Literal(_) | Kind::Group(Bracket::Parenthesis | Bracket::Brace, _) => true,
            Kind::Punct(punct) => matches!(punct, '-' | '+' | '*' | '&' | '!' | '~' | '.'),
            _ => false,
        };
        let is_indirect = inner.last().is_some_and(|last| last.is('*') || last.is('&'));
        let is_known = TYPE_WORDS.contains(&first) || is_type(first) || self.types.contains(first);
        let is_variable = self.scopes.find(first).is_some() || self.arrays.contains(first);
        let is_alone = inner.len() == 1 && !is_variable && !matches!(next.kind, Kind::Punct(_));
        is_operand && (is_known || is_indirect || is_alone)
    }

    /// A cast to the type in `ty` of what `read` reads.
    pub(super) fn cast(&mut self, ty: &[Token], read: impl FnOnce(&mut Self) -> Operand) -> Operand {
        if let [only] = ty
            && only.name() == Some("void")
        {
            self.with_sink(Sink::Nothing, read);
            return Operand::default();
        }
        let operand = read(self);
        let is_atomic = ty.iter().filter_map(Token::name).any(|name| name.starts_with("atomic"));
        let is_pointer =
            |last: &Token| last.is('*') || last.is('&') || last.name().is_some_and(|name| self.pointers.contains(name));
        match ty.last() {
            Some(last) if is_pointer(last) => Operand { is_bare: false, is_atomic, ..operand },
            _ => Operand::default(),
        }
    }

    pub(super) fn call(&mut self, name: Name, template: &[Token], inner: &[Token], is_path: bool) -> Operand {
        let text = name.text.clone();
        match text.as_str() {
            "static_cast" | "reinterpret_cast" | "const_cast" => {
                let ty = template.get(1..template.len().saturating_sub(1)).unwrap_or_default().to_vec();
                return self.cast(&ty, |scanner| scanner.parenthesis(inner));
            }
            "sizeof" | "alignof" | "decltype" | "alignas" => return Operand::default(),
            // `P(x)` is a cast if `P` is a pointer type that the source defines.
            _ if self.pointers.contains(&text) && !is_path => {
                let operand = self.parenthesis(inner);
                return Operand { is_bare: false, ..operand };
            }
            _ => {}
        }
        let known = self.scopes.find(&text);
        if let Some(local) = known {
            let sink = self.current_sink();
            self.scopes.read(local, if sink == Sink::Nothing { sink } else { Sink::Used });
        } else if !is_path && !is_keyword(&text) {
            let access = self.access(name, None);
            self.found.accesses[access].kind = AccessKind::Call;
        }
        self.arguments(Some(&text), inner);
        Operand::default()
    }

    /// The arguments of a call, or the elements of a list in braces.
    pub(super) fn arguments(&mut self, function: Option<&str>, inner: &[Token]) {
        let is_pure = function.is_some_and(|name| {
            let declared = self.scopes.find(name).is_some();
            !declared && (is_type(name) || is_function(name) || self.types.contains(name))
        });
        let is_list = function.is_none();
        let sink = if is_pure || is_list { self.sink } else { Sink::Used };
        let mut cursor = Cursor { tokens: inner, index: 0 };
        let mut position = 0;
        while cursor.index < inner.len() {
            let before = cursor.index;
            let operand = self.with_sink(sink, |scanner| scanner.assignment(&mut cursor));
            match function {
                Some(name) if name.starts_with("atomic_") => self.atomic(name, position, &operand),
                _ if is_pure => {
                    if function.is_some_and(|name| is_function(name) && !is_type(name) && name != "as_type") {
                        self.number(&operand, true);
                    }
                }
                _ if operand.level == Level::Element && function.is_some() => self.mark(&operand, AccessKind::Given),
                _ => self.hand_on(&operand),
            }
            position += 1;
            if cursor.take(|operator| operator == ",").is_none() && cursor.index < inner.len() {
                self.hand_on(&operand);
            }
            if cursor.index == before {
                self.step_over(&inner[before]);
                cursor.index += 1;
            }
        }
    }

    pub(super) fn atomic(&mut self, function: &str, position: usize, operand: &Operand) {
        let kind = match (position, operand.is_atomic) {
            _ if operand.level == Level::Value => return,
            (0, _) if function.starts_with("atomic_load") => AccessKind::Read,
            (0, false) => AccessKind::Atomic,
            (0, true) if function.starts_with("atomic_store") || function.starts_with("atomic_exchange") => {
                AccessKind::Store
            }
            (0, true) => AccessKind::Accumulate,
            _ => return self.hand_on(operand),
        };
        self.mark(operand, kind);
    }
}
