//! Declarations: the names they introduce, with what those point to.

use super::WORDS;
use super::operand::Cursor;
use super::scopes::{Level, Local, Sink};
use super::{Element, Length, Scanner, Shared};
use crate::names::{is_keyword, is_type, size_of};
use crate::tokens::neighbours::{is_scope, skip_path, skip_template};
use crate::tokens::operator::operator;
use crate::tokens::token::{self, Bracket, Kind, Name, Token};

/// The part of a declaration before its names.
#[derive(Debug, Default)]
struct Head {
    is_threadgroup: bool,
    is_constant: bool,
    is_auto: bool,
    is_atomic: bool,
    is_static: bool,
    is_indirect: bool,
    element: Option<String>,
    /// The place where the first declarator begins.
    end: usize,
}

impl Scanner {
    /// Reads `qualifiers type declarator, declarator`; whether it was one.
    pub(super) fn declaration(&mut self, statement: &[Token]) -> bool {
        let Some(head) = self.head(statement) else { return false };
        if self.declarator(statement, head.end).is_none() {
            return self.reserved(statement, &head);
        }
        self.note_doubles(&statement[..head.end]);
        let mut cursor = Cursor { tokens: statement, index: head.end };
        loop {
            let Some((name, is_indirect)) = self.declarator(statement, cursor.index) else {
                self.expression(&statement[cursor.index..]);
                return true;
            };
            cursor.index = name + 1;
            self.space_missing(&statement[..name], &head.element, &statement[cursor.index - 1]);
            let Some(name) = statement[name].to_name() else { return true };
            let is_function = matches!(cursor.kind(), Some(Kind::Group(Bracket::Parenthesis, _)));
            if head.is_static && !head.is_constant && !is_function {
                self.found.left_out.push(Name { text: "static".to_owned(), place: name.place });
            }
            self.variable(&head, name, is_indirect || head.is_indirect, &mut cursor);
            if cursor.take(|operator| operator == ",").is_none() {
                self.expression(&statement[cursor.index..]);
                return true;
            }
        }
    }

    /// Qualifiers and type, if a statement begins with them.
    fn head(&mut self, statement: &[Token]) -> Option<Head> {
        let name_at = |index: usize| statement.get(index).and_then(Token::name);
        let mut head = Head::default();
        let mut index = 0;
        let mut is_complete = false;
        loop {
            if let Some(Kind::Group(Bracket::Square, inner)) = statement.get(index).map(|token| &token.kind)
                && matches!(inner.as_slice(), [Token { kind: Kind::Group(Bracket::Square, _), .. }])
            {
                index += 1;
                continue;
            }
            match name_at(index) {
                Some("threadgroup") => head.is_threadgroup = true,
                Some("const" | "constexpr" | "constant") => head.is_constant = true,
                Some("static") => head.is_static = true,
                Some("device" | "thread" | "volatile" | "inline") => {}
                Some("typename" | "struct" | "enum" | "union" | "class") => {}
                Some("unsigned" | "signed") => is_complete = true,
                Some("auto") => (is_complete, head.is_auto) = (true, true),
                _ => break,
            }
            index += 1;
        }
        if let Some(ty) = name_at(index) {
            let is_variable = self.scopes.find(ty).is_some() || self.arrays.contains(ty);
            // `not x[i]` declares nothing.
            if is_keyword(ty) || WORDS.contains(&ty) || matches!(ty, "not" | "compl") || is_variable && !is_complete {
                return None;
            }
            // In `unsigned x` the qualifier is the type; in `unsigned int x` the type follows it.
            if !is_complete || is_type(ty) || name_at(index + 1).is_some_and(|next| !is_keyword(next)) && !head.is_auto
            {
                // The type may be `long int`, `short int` or `long long`.
                while matches!(name_at(index), Some("long" | "short"))
                    && matches!(name_at(index + 1), Some("long" | "int" | "unsigned"))
                {
                    index += 1;
                }
                head.is_indirect = self.pointers.contains(ty);
                head.element = Some(ty.to_owned());
                let begin = index;
                index = skip_template(statement, index + 1);
                index = skip_path(statement, index, &mut head.element);
                index = skip_template(statement, index);
                let words = token::names(&statement[begin..index]);
                head.is_atomic = words.iter().any(|word| word.starts_with("atomic"));
            }
        } else if !is_complete {
            return None;
        }
        let is_set = |index: usize| operator(statement, index).is_some_and(|(found, _)| found == "=");
        while matches!(name_at(index), Some("const" | "volatile" | "device" | "threadgroup" | "constant" | "thread"))
            && !is_set(index + 1)
        {
            head.is_threadgroup |= name_at(index) == Some("threadgroup");
            index += 1;
        }
        head.end = index;
        Some(head)
    }

    /// The place of the name that is declared at `index`, and whether it is a pointer or reference.
    fn declarator(&self, statement: &[Token], mut index: usize) -> Option<(usize, bool)> {
        let mut is_indirect = false;
        loop {
            let token = statement.get(index)?;
            if token.is('*') || token.is('&') {
                is_indirect = true;
            } else if !matches!(token.name(), Some("const" | "restrict" | "volatile" | "thread" | "device")) {
                break;
            }
            index += 1;
        }
        let name = statement[index].name()?;
        if is_keyword(name) {
            return None;
        }
        let declares = match statement.get(index + 1).map(|next| &next.kind) {
            None | Some(Kind::Group(..) | Kind::Branch(_)) => true,
            Some(Kind::Punct(_)) => {
                let (found, _) = operator(statement, index + 1)?;
                matches!(found, "=" | "," | ":" | ";") && !is_scope(statement, index + 1)
            }
            _ => false,
        };
        declares.then_some((index, is_indirect))
    }

    /// `float thread = ..`: a word of the language in the place of a name.
    fn reserved(&mut self, statement: &[Token], head: &Head) -> bool {
        let name = statement.get(head.end).and_then(Token::to_name).filter(|name| is_keyword(&name.text));
        let is_set = operator(statement, head.end + 1).is_some_and(|(found, _)| found == "=");
        match name {
            Some(name) if is_set && head.element.as_deref().is_some_and(is_type) => {
                self.found.reserved.push(name);
                true
            }
            _ => false,
        }
    }

    /// One variable, from behind its name to the end of what it is set to.
    fn variable(&mut self, head: &Head, name: Name, is_indirect: bool, cursor: &mut Cursor<'_>) {
        let begin = cursor.index;
        let is_array = matches!(cursor.kind(), Some(Kind::Group(Bracket::Square, _)));
        let lanes = self.lanes_of(head.element.as_ref()).filter(|_| !is_indirect && !is_array);
        let local = self.scopes.add(Local {
            is_indirect,
            is_atomic: head.is_atomic,
            is_constant: head.is_constant,
            lanes,
            constant: (head.is_constant && !is_indirect).then(|| name.text.clone()),
            ..Local::default()
        });
        while let Some(Kind::Group(Bracket::Square, length)) = cursor.kind() {
            let length = length.clone();
            cursor.index += 1;
            self.length(&name, &length);
            self.expression(&length);
        }
        if head.is_threadgroup && !is_indirect {
            let element = head.element.as_ref();
            let element = element.map(|name| size_of(name).map_or_else(|| Element::Type(name.clone()), Element::Bytes));
            let lengths = self.lengths_of(&cursor.tokens[begin..]);
            let is_outermost = self.scopes.is_outermost() && self.in_branch == 0;
            if self.in_branch == 0 {
                self.found.threadgroup.push(Shared { name: name.clone(), element, lengths, is_outermost });
            }
        }
        match cursor.tokens.get(cursor.index).map(|token| &token.kind) {
            Some(Kind::Group(_, inner)) => {
                cursor.index += 1;
                self.with_sink(Sink::Local(local), |scanner| scanner.arguments(None, inner));
            }
            // `:` stands before the width of a bit field, and before what a loop iterates over.
            _ if cursor.take(|operator| operator == "=" || operator == ":").is_some() => {
                self.initial(head, &name, local, is_indirect, cursor);
            }
            _ => {}
        }
        self.found.declared.insert(name.text.clone());
        self.scopes.declare(&name.text, local);
        let names = if self.scopes.is_outermost() { &mut self.found.outermost } else { &mut self.found.inner };
        names.push(name);
    }

    fn initial(&mut self, head: &Head, name: &Name, local: usize, is_indirect: bool, cursor: &mut Cursor<'_>) {
        let begin = cursor.index;
        let operand = self.with_sink(Sink::Local(local), |scanner| scanner.assignment(cursor));
        let follows = match operand.level {
            Level::Value => false,
            Level::Pointer => is_indirect || head.is_auto,
            Level::Element => is_indirect,
        };
        if let Some(lanes) = self.scopes.locals[local].lanes {
            self.number(&operand, false);
            self.position(&cursor.tokens[begin..cursor.index], lanes);
        }
        if follows {
            self.scopes.locals[local].is_indirect = true;
            self.point(local, &operand);
        } else {
            self.hand_on(&operand);
        }
        if head.is_constant && !is_indirect {
            self.note_origin(local, &cursor.tokens[begin..cursor.index]);
            self.define(&name.text, &cursor.tokens[begin..cursor.index]);
        }
    }

    /// The parameters of a function or lambda: each is a declaration.
    pub(super) fn parameters(&mut self, tokens: &[Token]) {
        for parameter in tokens.split(|token| token.is(',')) {
            self.declaration(parameter);
        }
    }

    /// Notes names in the length of an array that only a launch gives a value.
    fn length(&mut self, array: &Name, length: &[Token]) {
        for token in length {
            match &token.kind {
                // The values of `sizeof` and of functions are not known here.
                Kind::Name(name) if is_keyword(name) => return,
                Kind::Name(name) => {
                    let local = self.scopes.find(name).map(|local| &self.scopes.locals[local]);
                    let (names, is_local) = match local {
                        Some(local) if local.is_constant => (local.made_of.clone(), false),
                        Some(_) => (vec![name.clone()], true),
                        None => (vec![name.clone()], false),
                    };
                    let lengths = names.into_iter().map(|name| Length { array: array.clone(), name, is_local });
                    self.found.lengths.extend(lengths);
                }
                _ => {}
            }
        }
    }

    /// Notes what the value of a constant is made of: it is as constant as that.
    fn note_origin(&mut self, local: usize, value: &[Token]) {
        for name in token::names(value).into_iter().filter(|name| !is_keyword(name) && !is_type(name)) {
            match self.scopes.find(name) {
                Some(other) => {
                    let Local { is_constant, made_of, .. } = self.scopes.locals[other].clone();
                    self.scopes.locals[local].is_constant &= is_constant;
                    self.scopes.locals[local].made_of.extend(made_of);
                }
                None => self.scopes.locals[local].made_of.push(name.to_owned()),
            }
        }
    }

    /// Returns whether a variable of the text is found by that name here.
    pub(super) fn is_local(&self, name: &str) -> bool {
        self.scopes.find(name).is_some()
    }

    /// Notes the value of a constant; one that has another value elsewhere has none.
    fn define(&mut self, name: &str, value: &[Token]) {
        const LONGEST: usize = 1000;
        let is_new = !self.constants.contains_key(name);
        let value = Some(value).filter(|_| is_new).map(|value| self.substituted(value));
        let value = value.filter(|value| value.len() <= LONGEST).unwrap_or_default();
        self.constants.insert(name.to_owned(), value);
    }

    /// Tokens as Rust reads them, with the values of constants in place of their names and numbers without suffixes.
    fn substituted(&self, tokens: &[Token]) -> String {
        let texts = tokens.iter().map(|token| match &token.kind {
            Kind::Name(name) => self.constants.get(name).map_or_else(|| name.clone(), |value| format!("({value})")),
            Kind::Literal(text) => text.trim_end_matches(['u', 'U', 'l', 'L']).to_owned(),
            Kind::Group(bracket, inner) => {
                let (open, close) = bracket.characters();
                format!("{open}{}{close}", self.substituted(inner))
            }
            Kind::Punct(_) | Kind::Branch(_) => token::join(std::slice::from_ref(token)),
        });
        texts.collect::<Vec<_>>().join(" ")
    }

    /// The lengths in `[4][8]`, with the constants of the source in place of their names.
    fn lengths_of(&self, behind: &[Token]) -> Vec<String> {
        let lengths = behind.iter().map_while(|token| match &token.kind {
            Kind::Group(Bracket::Square, length) => Some(self.substituted(length)),
            _ => None,
        });
        lengths.collect()
    }
}
