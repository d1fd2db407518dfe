//! Expressions: what each name in them is used for.

use super::scopes::{Level, Local, Sink};
use super::{Access, AccessKind, Scanner};
use crate::metal::names::{ATTRIBUTES, is_function, is_keyword, is_type};
use crate::metal::neighbours::{is_scope, skip_template};
use crate::metal::operator::{is_compound_assignment, operator};
use crate::metal::token::{Bracket, Kind, Name, Token};

/// A part of an expression that has been read.
#[derive(Debug, Default)]
pub(super) struct Operand {
    /// The accesses of the names that it is made of, where they can still turn out to be more than reads.
    pub(super) accesses: Vec<usize>,
    /// The variable that it is, or is a part of.
    local: Option<usize>,
    /// The uses of that variable.
    uses: Vec<usize>,
    pub(super) level: Level,
    /// Whether it is a name alone.
    is_bare: bool,
    /// Whether it points to atomics.
    pub(super) is_atomic: bool,
}

/// Tokens and how far they are read.
pub(super) struct Cursor<'t> {
    pub(super) tokens: &'t [Token],
    pub(super) index: usize,
}

impl Cursor<'_> {
    pub(super) fn kind(&self) -> Option<&Kind> {
        self.tokens.get(self.index).map(|token| &token.kind)
    }

    /// Steps over an operator, if it is one that `wanted` takes.
    pub(super) fn take(&mut self, wanted: impl Fn(&str) -> bool) -> Option<&'static str> {
        let (found, length) = operator(self.tokens, self.index).filter(|(found, _)| wanted(found))?;
        self.index += length;
        Some(found)
    }
}

const BINARY: &[&str] =
    &["+", "-", "*", "/", "%", "==", "!=", "<", ">", "<=", ">=", "&&", "||", "&", "|", "^", "<<", ">>"];
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
const WORDS: &[&str] = &["and", "or", "xor", "bitand", "bitor", "not_eq"];

impl Scanner {
    /// Reads all of `tokens`; what is no expression is stepped over.
    pub(super) fn expression(&mut self, tokens: &[Token]) {
        let mut cursor = Cursor { tokens, index: 0 };
        while cursor.index < tokens.len() {
            let before = cursor.index;
            let operand = self.assignment(&mut cursor);
            let ends = cursor.take(|operator| matches!(operator, "," | ";" | ":")).is_some();
            if !ends && cursor.index < tokens.len() {
                // Not followed from here.
                self.hand_on(&operand);
            }
            if cursor.index == before {
                self.step_over(&tokens[before]);
                cursor.index += 1;
            }
        }
    }

    fn step_over(&mut self, token: &Token) {
        match &token.kind {
            Kind::Branch(inner) => self.branch(inner),
            Kind::Group(_, inner) => self.expression(inner),
            Kind::Punct('\'') => self.found.quotes.push(token.place),
            _ => {}
        }
    }

    /// What the operand points to may be written where it goes.
    pub(super) fn hand_on(&mut self, operand: &Operand) {
        if operand.level == Level::Pointer {
            self.mark(operand, AccessKind::Address);
        }
    }

    fn mark(&mut self, operand: &Operand, kind: AccessKind) {
        // Which of several it is, is not known.
        let is_one = operand.accesses.len() == 1;
        let kind = if is_one || kind == AccessKind::Alias { kind } else { AccessKind::Address };
        for access in &operand.accesses {
            self.found.accesses[*access].kind = kind;
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

    fn assignment_inside(&mut self, cursor: &mut Cursor<'_>) -> Operand {
        let left = self.conditional(cursor);
        let Some(found) = cursor.take(|operator| operator == "=" || is_compound_assignment(operator)) else {
            return left;
        };
        let owner = left.local.filter(|local| !self.scopes.locals[*local].is_indirect);
        let sink = owner.map_or(Sink::Used, Sink::Local);
        let right = self.with_sink(sink, |scanner| scanner.assignment(cursor));
        if found == "=" {
            self.store(&left, &right);
        } else {
            self.change(&left);
        }
        Operand::default()
    }

    fn store(&mut self, left: &Operand, right: &Operand) {
        self.scopes.redirect(&left.uses, Sink::Nothing);
        if left.is_bare && (left.level == Level::Pointer || self.is_pointer(left.local)) {
            match left.local {
                // A pointer of the text points elsewhere from here.
                Some(local) => {
                    self.mark(left, AccessKind::Alias);
                    self.point(local, right);
                }
                None => {
                    let same = |access: &usize| left.accesses.iter().any(|own| self.name(*own) == self.name(*access));
                    let moves = right.accesses.iter().all(same);
                    self.mark(left, AccessKind::Move);
                    if moves {
                        self.mark(right, AccessKind::Alias);
                    } else {
                        self.hand_on(right);
                    }
                }
            }
            return;
        }
        self.mark(left, AccessKind::Store);
        self.hand_on(right);
    }

    fn name(&self, access: usize) -> &str {
        &self.found.accesses[access].name.text
    }

    fn is_pointer(&self, local: Option<usize>) -> bool {
        local.is_some_and(|local| {
            let local = &self.scopes.locals[local];
            local.is_indirect && local.level != Level::Element
        })
    }

    /// A variable points where `operand` does.
    pub(super) fn point(&mut self, local: usize, operand: &Operand) {
        if operand.accesses.is_empty() || operand.level == Level::Value {
            return;
        }
        self.mark(operand, AccessKind::Alias);
        let roots: Vec<String> = operand.accesses.iter().map(|access| self.name(*access).to_owned()).collect();
        let local = &mut self.scopes.locals[local];
        local.roots.extend(roots);
        local.level = operand.level;
        local.is_atomic |= operand.is_atomic;
    }

    /// `operand += ..`, `++operand`
    fn change(&mut self, operand: &Operand) {
        let owner = operand.local.filter(|local| !self.scopes.locals[*local].is_indirect);
        self.scopes.redirect(&operand.uses, owner.map_or(Sink::Used, Sink::Local));
        let moves = operand.is_bare && operand.level == Level::Pointer;
        let kind = match (moves, operand.local) {
            (true, Some(_)) => AccessKind::Alias,
            (true, None) => AccessKind::Move,
            (false, _) => AccessKind::Accumulate,
        };
        self.mark(operand, kind);
    }

    fn conditional(&mut self, cursor: &mut Cursor<'_>) -> Operand {
        let condition = self.binary(cursor);
        if cursor.take(|operator| operator == "?").is_none() {
            return condition;
        }
        let mut chosen = self.assignment(cursor);
        if cursor.take(|operator| operator == ":").is_some() {
            let other = self.assignment(cursor);
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
    fn binary(&mut self, cursor: &mut Cursor<'_>) -> Operand {
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
        loop {
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
            keep(operand, &mut pointers);
            operand = self.unary(cursor);
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

    fn unary(&mut self, cursor: &mut Cursor<'_>) -> Operand {
        let read = self.deeper(|scanner| scanner.unary_inside(cursor));
        read.unwrap_or_else(|| {
            cursor.index = cursor.tokens.len();
            Operand::default()
        })
    }

    fn unary_inside(&mut self, cursor: &mut Cursor<'_>) -> Operand {
        if let Some(found) = cursor.take(|operator| matches!(operator, "++" | "--" | "*" | "&" | "-" | "+" | "!" | "~"))
        {
            let operand = self.unary(cursor);
            return match found {
                "++" | "--" => {
                    self.change(&operand);
                    operand
                }
                "*" if operand.level != Level::Value => Operand { level: Level::Element, is_bare: false, ..operand },
                "*" => Operand { is_bare: false, ..operand },
                "&" if operand.level == Level::Element => Operand { level: Level::Pointer, is_bare: false, ..operand },
                "&" => {
                    // Where the address of a variable is, it may be read.
                    self.scopes.redirect(&operand.uses, Sink::Used);
                    self.mark(&operand, AccessKind::Address);
                    Operand::default()
                }
                _ => Operand::default(),
            };
        }
        if let Some(Kind::Name(name)) = cursor.kind()
            && name == "not"
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

    /// Whether brackets with `inner` before `next` are a cast.
    fn is_cast(&self, inner: &[Token], next: Option<&Token>) -> bool {
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
    fn cast(&mut self, ty: &[Token], read: impl FnOnce(&mut Self) -> Operand) -> Operand {
        if let [only] = ty
            && only.name() == Some("void")
        {
            self.with_sink(Sink::Nothing, read);
            return Operand::default();
        }
        let operand = read(self);
        let is_atomic = ty.iter().filter_map(Token::name).any(|name| name.starts_with("atomic"));
        match ty.last() {
            Some(last) if last.is('*') || last.is('&') => Operand { is_bare: false, is_atomic, ..operand },
            _ => Operand::default(),
        }
    }

    fn postfix(&mut self, cursor: &mut Cursor<'_>) -> Operand {
        let mut operand = self.primary(cursor);
        let mut is_member = false;
        loop {
            if is_member && matches!(cursor.kind(), Some(Kind::Group(Bracket::Square, _))) {
                // A field may be a pointer: what is stored through it goes elsewhere.
                self.scopes.redirect(&operand.uses, Sink::Used);
                (operand.local, operand.uses) = (None, Vec::new());
            }
            match cursor.tokens.get(cursor.index).map(|token| &token.kind) {
                Some(Kind::Group(Bracket::Square, inner)) => {
                    cursor.index += 1;
                    self.expression(inner);
                    operand = element(operand);
                }
                // `x.load(1)`, `f(1)(2)`
                Some(Kind::Group(Bracket::Parenthesis, inner)) => {
                    cursor.index += 1;
                    self.arguments(None, inner);
                    operand = Operand::default();
                }
                Some(Kind::Punct('.')) if self.member_follows(cursor, 1) => {
                    cursor.index += 2;
                    is_member = true;
                    operand.is_bare &= operand.level == Level::Value;
                }
                Some(Kind::Punct('-')) => match operator(cursor.tokens, cursor.index) {
                    Some(("->", _)) if self.member_follows(cursor, 2) => {
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

    fn member_follows(&self, cursor: &Cursor<'_>, ahead: usize) -> bool {
        cursor.tokens.get(cursor.index + ahead).is_some_and(|member| member.name().is_some())
    }

    fn primary(&mut self, cursor: &mut Cursor<'_>) -> Operand {
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
                self.lambda(inner, cursor);
                Operand::default()
            }
            Kind::Punct('\'') => {
                self.found.quotes.push(token.place);
                // The name of the lifetime.
                cursor.index += 2;
                Operand::default()
            }
            Kind::Name(_) => self.named(cursor),
            Kind::Punct(_) | Kind::Branch(_) => Operand::default(),
        }
    }

    /// `(a)`, `(a, b)`
    fn parenthesis(&mut self, inner: &[Token]) -> Operand {
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
    fn lambda(&mut self, captures: &[Token], cursor: &mut Cursor<'_>) {
        if matches!(captures, [Token { kind: Kind::Group(Bracket::Square, _), .. }]) {
            return;
        }
        let body = cursor.tokens[cursor.index..]
            .iter()
            .position(|token| matches!(token.kind, Kind::Group(Bracket::Brace, _)))
            .map(|offset| cursor.index + offset);
        let Some(body) = body else { return };
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
    fn named(&mut self, cursor: &mut Cursor<'_>) -> Operand {
        let tokens = cursor.tokens;
        let mut last = cursor.index;
        // `metal::exp`, `numeric_limits<float>::max`
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
        let Some(name) = tokens[last].to_name() else { return Operand::default() };
        self.note_doubles(&tokens[last..=last]);
        let behind = skip_template(tokens, last + 1);
        let local = self.scopes.find(&name.text).filter(|_| !is_path);
        let is_known = local.is_some() || self.arrays.contains(&name.text);
        match tokens.get(behind).map(|token| &token.kind) {
            Some(Kind::Group(Bracket::Parenthesis, inner)) if behind == last + 1 || !is_known => {
                cursor.index = behind + 1;
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
                    Some(local) => self.local(local, &name),
                    None => {
                        self.component(cursor, &name);
                        self.value(name)
                    }
                }
            }
        }
    }

    pub(super) fn note_doubles(&mut self, tokens: &[Token]) {
        for token in tokens {
            let is_double =
                |name: &str| name.strip_prefix("double").is_some_and(|lanes| matches!(lanes, "" | "2" | "3" | "4"));
            if token.name().is_some_and(is_double) {
                self.found.doubles.push(token.place);
            }
        }
    }

    fn component(&mut self, cursor: &Cursor<'_>, name: &Name) {
        let is_member = cursor.tokens.get(cursor.index).is_some_and(|token| token.is('.'));
        if let (true, true, Some(member)) = (
            is_member,
            ATTRIBUTES.contains(&name.text.as_str()),
            cursor.tokens.get(cursor.index + 1).and_then(Token::to_name),
        ) {
            self.found.components.push((name.clone(), member));
        }
    }

    /// A name that no variable of the text has.
    fn value(&mut self, name: Name) -> Operand {
        let level = if self.arrays.contains(&name.text) { Level::Pointer } else { Level::Value };
        let access = self.access(name, None);
        Operand { accesses: vec![access], level, is_bare: true, ..Operand::default() }
    }

    fn access(&mut self, name: Name, through: Option<String>) -> usize {
        self.found.accesses.push(Access { name, kind: AccessKind::Read, through, is_used: false });
        self.sinks.push(self.current_sink());
        self.sinks.len() - 1
    }

    fn local(&mut self, local: usize, name: &Name) -> Operand {
        let uses = vec![self.scopes.read(local, self.current_sink())];
        let Local { roots, level, is_atomic, .. } = self.scopes.locals[local].clone();
        let accesses = roots
            .into_iter()
            .map(|root| self.access(Name { text: root, place: name.place }, Some(name.text.clone())))
            .collect();
        Operand { accesses, local: Some(local), uses, level, is_bare: true, is_atomic }
    }

    fn call(&mut self, name: Name, template: &[Token], inner: &[Token], is_path: bool) -> Operand {
        let text = name.text.clone();
        match text.as_str() {
            "static_cast" | "reinterpret_cast" | "const_cast" => {
                let ty = template.get(1..template.len().saturating_sub(1)).unwrap_or_default().to_vec();
                return self.cast(&ty, |scanner| scanner.parenthesis(inner));
            }
            "sizeof" | "alignof" | "decltype" | "alignas" => return Operand::default(),
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
                _ if is_pure => {}
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

    fn atomic(&mut self, function: &str, position: usize, operand: &Operand) {
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

/// What an index or `->` leaves of an operand.
fn element(operand: Operand) -> Operand {
    let level = if operand.level == Level::Value { Level::Value } else { Level::Element };
    Operand { level, is_bare: false, ..operand }
}
