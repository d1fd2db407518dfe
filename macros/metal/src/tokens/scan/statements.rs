//! Statements: blocks and what opens them.

use super::Scanner;
use super::scopes::{Local, Sink};
use crate::names::is_keyword;
use crate::tokens::neighbours::is_scope;
use crate::tokens::operator::{is_compound_assignment, operator};
use crate::tokens::token::{Bracket, Kind, Token};

/// Macros of the tiles: names in their brackets that are not yet known are variables of the block behind.
const VISITORS: [&str; 2] = ["tile_for_each", "tile_with_rows"];

impl Scanner {
    pub(super) fn statements(&mut self, tokens: &[Token]) {
        let outer = self.is_dead;
        let mut index = 0;
        while index < tokens.len() {
            if is_label(tokens, index) {
                self.is_dead = outer;
            }
            let next = self.deeper(|scanner| scanner.statement(tokens, index));
            // Statements behind a `return` in one block never run.
            self.is_dead |= !self.has_conditions && leaves(&tokens[index]);
            index = next.unwrap_or(tokens.len()).max(index + 1);
        }
        self.is_dead = outer;
    }

    /// Reads the part behind `#else` or `#elif`, in the scope of the part that it replaces.
    pub(super) fn branch(&mut self, tokens: &[Token]) {
        self.in_branch += 1;
        self.statements(tokens);
        self.in_branch -= 1;
    }

    fn block(&mut self, tokens: &[Token]) {
        self.scopes.enter();
        self.statements(tokens);
        self.scopes.leave();
    }

    /// Reads one statement; where the next begins.
    fn statement(&mut self, tokens: &[Token], index: usize) -> usize {
        let Some(token) = tokens.get(index) else { return index };
        let parenthesis = |index: usize| match tokens.get(index).map(|token| &token.kind) {
            Some(Kind::Group(Bracket::Parenthesis, inner)) => Some(inner.as_slice()),
            _ => None,
        };
        match &token.kind {
            Kind::Group(Bracket::Brace, inner) => {
                self.block(inner);
                return index + 1;
            }
            Kind::Branch(inner) => {
                self.branch(inner);
                return index + 1;
            }
            Kind::Punct(';') => return index + 1,
            Kind::Name(name) => match name.as_str() {
                "if" => {
                    let head =
                        index + 1 + usize::from(tokens.get(index + 1).and_then(Token::name) == Some("constexpr"));
                    if let Some(condition) = parenthesis(head) {
                        return self.choice(tokens, condition, head + 1);
                    }
                    self.head_missing(name, token.place);
                }
                "for" | "while" | "switch" => {
                    if let Some(head) = parenthesis(index + 1) {
                        self.scopes.enter();
                        match name.as_str() {
                            "while" => self.assignment_in(head),
                            "for" => self.loop_head(token.place, head),
                            _ => {}
                        }
                        self.head_of_block(head);
                        let condition = match name.as_str() {
                            "while" => head,
                            "for" => head.split(|token| token.is(';')).nth(1).unwrap_or_default(),
                            _ => &[],
                        };
                        let next = self.part(tokens, index + 2, self.truth(condition) == Some(false));
                        self.scopes.leave();
                        return next;
                    }
                    self.head_missing(name, token.place);
                }
                "return" => self.value_returned(&tokens[index..end_of(tokens, index)]),
                "do" | "else" => {
                    if name == "else" {
                        self.else_alone(token.place, &tokens[..index]);
                    }
                    let next = self.deeper(|scanner| scanner.statement(tokens, index + 1));
                    if let ("do", Some(next)) = (name.as_str(), next) {
                        self.end_of_do(token.place, tokens.get(next));
                        if let Some([word, Token { kind: Kind::Group(_, condition), .. }, end]) =
                            tokens.get(next..next + 3)
                            && word.name() == Some("while")
                            && end.is(';')
                        {
                            self.assignment_in(condition);
                            self.head_of_block(condition);
                            return next + 3;
                        }
                    }
                    return next.unwrap_or(tokens.len());
                }
                "case" | "default" => return self.label(tokens, index),
                "struct" | "union" | "enum" | "class" => {
                    if let Some(next) = self.type_definition(tokens, index) {
                        return next;
                    }
                }
                "using" | "typedef" => {
                    let end = end_of(tokens, index);
                    self.type_name(&tokens[index..end]);
                    return end + 1;
                }
                _ if tokens.get(index + 1).is_some_and(|next| next.is(':')) && !is_scope(tokens, index + 1) => {
                    return index + 2;
                }
                _ => {
                    if let Some(next) = self.with_block(tokens, index) {
                        return next;
                    }
                }
            },
            // The attribute comes first in `[[unroll]] for ..`.
            Kind::Group(Bracket::Square, inner)
                if matches!(inner.as_slice(), [Token { kind: Kind::Group(Bracket::Square, _), .. }])
                    && tokens.get(index + 1).and_then(Token::name).is_some_and(opens) =>
            {
                return self.deeper(|scanner| scanner.statement(tokens, index + 1)).unwrap_or(tokens.len());
            }
            _ => {}
        }
        let end = end_of(tokens, index);
        self.simple(&tokens[index..end]);
        end + 1
    }

    /// A statement that may never run.
    fn part(&mut self, tokens: &[Token], index: usize, is_never: bool) -> usize {
        self.scopes.enter();
        let next = self.unless(is_never, |scanner| scanner.deeper(|scanner| scanner.statement(tokens, index)));
        self.scopes.leave();
        next.unwrap_or(tokens.len())
    }

    /// `if (condition) .. else ..`, from behind the condition.
    fn choice(&mut self, tokens: &[Token], condition: &[Token], index: usize) -> usize {
        self.scopes.enter();
        self.assignment_in(condition);
        let is_empty = tokens.get(index).is_some_and(|part| match &part.kind {
            Kind::Group(Bracket::Brace, inner) => inner.is_empty(),
            _ => part.is(';'),
        });
        let truth = self.truth(condition);
        let has_parts = !is_empty || tokens.get(index + 1).and_then(Token::name) == Some("else");
        if has_parts && truth.is_none() || has_effect(condition) {
            self.head_of_block(condition);
        } else {
            // Nothing depends on the condition.
            self.with_sink(Sink::Nothing, |scanner| scanner.expression(condition));
        }
        let mut next = self.part(tokens, index, truth == Some(false));
        if tokens.get(next).and_then(Token::name) == Some("else") {
            next = self.part(tokens, next + 1, truth == Some(true));
        }
        self.scopes.leave();
        next
    }

    /// Reads the brackets of `for`, `if`, `while`.
    fn head_of_block(&mut self, head: &[Token]) {
        // `if (A && B)` declares no reference, nor `A * B` a pointer: these get a value where they are declared.
        let sets = |part: &[Token]| {
            let is_set = |at: usize| matches!(operator(part, at), Some(("=" | ":", _)));
            (0..part.len()).any(is_set) || !part.iter().any(|token| token.is('&') || token.is('*'))
        };
        self.with_sink(Sink::Used, |scanner| {
            for part in head.split(|token| token.is(';')) {
                if !sets(part) || !scanner.declaration(part) {
                    scanner.expression(part);
                }
            }
        });
    }

    /// Notes a condition that is an assignment without parentheses of its own: `i = 3`, `a[i] = 3`.
    fn assignment_in(&mut self, condition: &[Token]) {
        let Some(name) = condition.first().and_then(Token::to_name) else { return };
        let is_index = |token: &&Token| matches!(token.kind, Kind::Group(Bracket::Square, _));
        let behind = 1 + condition[1..].iter().take_while(is_index).count();
        if operator(condition, behind).is_some_and(|(found, _)| found == "=") {
            self.found.assigning.push(name);
        }
    }

    /// `case 1:`, `default:`
    fn label(&mut self, tokens: &[Token], index: usize) -> usize {
        let colon = (index..tokens.len()).find(|at| operator(tokens, *at).is_some_and(|(found, _)| found == ":"));
        let colon = colon.unwrap_or(tokens.len());
        self.expression(&tokens[(index + 1).min(colon)..colon]);
        colon + 1
    }

    /// `struct Name { .. } variable;` and the like; nothing if no body follows.
    fn type_definition(&mut self, tokens: &[Token], index: usize) -> Option<usize> {
        let end = end_of(tokens, index);
        let is_enum = tokens[index].name() == Some("enum");
        let is_scoped = is_enum && matches!(tokens.get(index + 1)?.name(), Some("class" | "struct"));
        let body = (index..end).find(|at| matches!(tokens[*at].kind, Kind::Group(Bracket::Brace, _)))?;
        if (index..body).any(|at| tokens[at].is('=')) {
            return None;
        }
        let name = tokens.get(index + 1 + usize::from(is_scoped)).and_then(Token::name);
        if let Some(name) = name {
            self.declare_everywhere(name);
            self.types.insert(name.to_owned());
        }
        let Kind::Group(_, inner) = &tokens[body].kind else { return None };
        if is_enum {
            self.enumerators(inner, is_scoped);
        } else {
            self.fields(inner);
        }
        if body + 1 < end {
            // In `struct { float a; } pair;` the struct's name is its type.
            let mut rest = vec![Token { kind: Kind::Name(name.unwrap_or("auto").to_owned()), ..tokens[index].clone() }];
            rest.extend_from_slice(&tokens[body + 1..end]);
            self.simple(&rest);
        }
        Some(end + 1)
    }

    fn enumerators(&mut self, inner: &[Token], is_scoped: bool) {
        for part in inner.split(|token| token.is(',')) {
            let Some(name) = part.first().and_then(Token::to_name) else { continue };
            self.expression(part.get(2..).unwrap_or_default());
            self.declare_everywhere(&name.text);
            if !is_scoped {
                let local = self.scopes.add(Local { is_constant: true, ..Local::default() });
                self.scopes.declare(&name.text, local);
            }
        }
    }

    /// Fields are names behind a `.`, and no variables.
    fn fields(&mut self, inner: &[Token]) {
        let (outermost, within) = (self.found.outermost.len(), self.found.inner.len());
        self.scopes.enter();
        self.structs += 1;
        self.statements(inner);
        self.structs -= 1;
        self.scopes.leave();
        self.found.outermost.truncate(outermost);
        for field in self.found.inner.split_off(within) {
            // A function of the struct may use a field that is declared after it.
            self.found.everywhere.insert(field.text);
        }
    }

    /// `using name = ..`, `typedef .. name`
    fn type_name(&mut self, statement: &[Token]) {
        let is_typedef = statement[0].name() == Some("typedef");
        let name = if is_typedef { statement.last() } else { statement.get(1) };
        if let Some(name) = name.and_then(Token::name).filter(|name| !is_keyword(name)) {
            self.declare_everywhere(name);
            self.types.insert(name.to_owned());
            let ends_in_pointer = statement[..statement.len() - usize::from(is_typedef)].last();
            if ends_in_pointer.is_some_and(|last| last.is('*')) {
                self.pointers.insert(name.to_owned());
            }
        }
        self.note_doubles(statement);
    }

    /// A function or a macro of a header before a block: `tile_for_each(t, row, column, value) { .. }`.
    fn with_block(&mut self, tokens: &[Token], index: usize) -> Option<usize> {
        let end = end_of(tokens, index);
        let block =
            (index + 2..end.min(tokens.len())).find(|at| matches!(tokens[*at].kind, Kind::Group(Bracket::Brace, _)))?;
        // Qualifiers stand before the block in `float get() const {`.
        let mut head = &tokens[index..block];
        while let [rest @ .., last] = head
            && matches!(last.name(), Some("const" | "thread" | "device" | "threadgroup" | "constant" | "volatile"))
        {
            head = rest;
        }
        let (Kind::Group(_, inner), Kind::Group(_, body)) = (&head.last()?.kind, &tokens[block].kind) else {
            return None;
        };
        let callee = head.get(head.len().checked_sub(2)?)?;
        let operator = head.iter().position(|token| token.name() == Some("operator"));
        // `auto f = [&](float a) { .. };` and `T v = T(x) { .. }` are not such blocks.
        if operator.is_none() && (callee.name().is_none() || head.iter().any(|token| token.is('='))) {
            return None;
        }
        self.scopes.enter();
        let is_function = head.len() != 2;
        self.function_inside(head, callee);
        if !is_function {
            if callee.name().is_some_and(|name| VISITORS.contains(&name)) {
                self.elements(inner);
            }
            self.expression(head);
        } else {
            if let Some(name) = callee.name() {
                self.declare_everywhere(name);
            }
            self.parameters(inner);
        }
        self.functions += usize::from(is_function);
        self.block(body);
        self.functions -= usize::from(is_function);
        self.scopes.leave();
        Some(block + 1)
    }

    /// `tile_for_each(tile, row, column, value)`: all names but those of tiles are new. A number is no tile, so its name is new, too.
    fn elements(&mut self, tokens: &[Token]) {
        for argument in tokens.split(|token| token.is(',')) {
            if let [Token { kind: Kind::Name(name), .. }] = argument
                && self.scopes.find(name).is_none_or(|local| self.scopes.locals[local].lanes.is_some())
            {
                self.found.declared.insert(name.clone());
                let local = self.scopes.add(Local { is_indirect: true, ..Local::default() });
                self.scopes.declare(name, local);
            }
        }
    }

    /// A declaration, or an expression of which nothing is kept unless it does something.
    fn simple(&mut self, statement: &[Token]) {
        if statement.is_empty() || self.declaration(statement) {
            return;
        }
        let sink = if has_effect(statement) { Sink::Used } else { Sink::Nothing };
        if sink == Sink::Nothing {
            self.comparison(statement);
        }
        self.with_sink(sink, |scanner| scanner.expression(statement));
    }
}

/// Returns where the statement that begins at `index` ends: at its `;`.
fn end_of(tokens: &[Token], index: usize) -> usize {
    tokens[index..].iter().position(|token| token.is(';')).map_or(tokens.len(), |length| index + length)
}

/// Returns whether a word begins a statement that is no declaration and no expression.
fn opens(word: &str) -> bool {
    matches!(word, "for" | "while" | "do" | "if" | "switch")
}

/// Returns whether a statement leaves its block.
fn leaves(first: &Token) -> bool {
    matches!(first.name(), Some("return" | "break" | "continue"))
}

/// Returns whether a block may be entered here.
fn is_label(tokens: &[Token], index: usize) -> bool {
    matches!(tokens[index].name(), Some("case" | "default"))
        || tokens[index].name().is_some()
            && tokens.get(index + 1).is_some_and(|next| next.is(':'))
            && !is_scope(tokens, index + 1)
}

/// Returns whether a statement may do more than make a value.
fn has_effect(statement: &[Token]) -> bool {
    if ["return", "goto"].iter().any(|word| statement[0].name() == Some(word)) {
        return true;
    }
    let mut index = 0;
    while let Some(token) = statement.get(index) {
        let mut length = 1;
        let is_effect = match &token.kind {
            Kind::Punct(_) => operator(statement, index).is_some_and(|(found, taken)| {
                length = taken;
                matches!(found, "=" | "++" | "--") || is_compound_assignment(found)
            }),
            Kind::Group(Bracket::Parenthesis, inner) => {
                let is_call = index > 0 && statement[index - 1].name().is_some_and(|name| !is_keyword(name));
                is_call || !inner.is_empty() && has_effect(inner)
            }
            Kind::Group(_, inner) => !inner.is_empty() && has_effect(inner),
            Kind::Branch(_) => true,
            Kind::Name(_) | Kind::Literal(_) => false,
        };
        if is_effect {
            return true;
        }
        index += length;
    }
    false
}
