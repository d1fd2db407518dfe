//! Mistakes that are found where expressions and statements are read.

use super::operand::{Cursor, Operand};
use super::scopes::Level;
use super::{Mistake, Scanner};
use crate::arity::arguments_of;
use crate::lanes::{has_lanes, lanes};
use crate::names::{ATTRIBUTES, is_function, is_keyword, is_type};
use crate::tokens::operator::{is_compound_assignment, operator};
use crate::tokens::token::{self, Bracket, Kind, Name, Place, Token};

/// Namespaces and types of Metal and of MLX before a `::`.
const NAMESPACES: &[&str] = &[
    "Limits",
    "fast",
    "mem_flags",
    "memory_order",
    "memory_scope",
    "metal",
    "numeric_limits",
    "precise",
    "raytracing",
    "simd",
    "thread_scope",
];

/// Returns the mistake of a `#` at the start of a line, before a word that is no directive.
pub(super) fn comment(word: &Name) -> Mistake {
    Mistake::new(word.place, format!("`#{}` is no directive", word.text), "write `//` in front of a comment")
}

impl Scanner {
    pub(super) fn mistake(&mut self, mistake: Mistake) {
        self.found.mistakes.push(mistake);
    }

    /// Notes `a ** b`, where the cursor is at the second `*`; `a * *p` reads through a pointer.
    pub(super) fn power(&mut self, cursor: &Cursor<'_>) {
        let Some([star, right, behind @ ..]) = cursor.tokens.get(cursor.index..) else { return };
        let is_alone = !behind.first().is_some_and(|next| {
            next.is('.') || matches!(next.kind, Kind::Group(..)) || operator(behind, 0).is_some_and(|(o, _)| o == "::")
        });
        let is_value = match &right.kind {
            Kind::Literal(_) => true,
            Kind::Name(name) if is_keyword(name) => false,
            Kind::Name(name) => match self.scopes.find(name) {
                Some(local) => self.scopes.locals[local].lanes.is_some(),
                None => is_alone && !self.arrays.contains(name),
            },
            _ => false,
        };
        let touches = cursor.index.checked_sub(1).is_some_and(|before| cursor.tokens[before].joint);
        if star.is('*') && is_value && touches {
            self.mistake(Mistake::new(
                star.place,
                "Metal has no operator `**`",
                "write `pow(a, b)`, or a product where the power is small: `a * a`",
            ));
        }
    }

    /// Notes `return value;` in the body of a kernel; in a function of the source it is correct.
    pub(super) fn value_returned(&mut self, statement: &[Token]) {
        let [_, first, ..] = statement else { return };
        let calls = |at: usize| {
            let is_callee = |name: &str| !is_function(name) && !is_type(name) && !is_keyword(name);
            statement[at - 1].name().is_some_and(is_callee)
        };
        let is_void = statement[1..].iter().enumerate().any(|(at, token)| match &token.kind {
            // The return type of the author's own function is not known, and may be `void`.
            Kind::Group(Bracket::Parenthesis, inner) => {
                token::names(inner) == ["void"] || calls(at + 1) && statement[at].name() != Some("return")
            }
            Kind::Branch(_) => true,
            _ => false,
        });
        if self.functions == 0 && !is_void {
            self.mistake(Mistake::new(
                first.place,
                "a kernel returns nothing",
                "store the value to an output, `y[i] = ..`, and leave with `return;`",
            ));
        }
    }

    /// Notes a component or an element that a variable does not have, if it is a number or a vector.
    pub(super) fn part_of_local(&mut self, cursor: &Cursor<'_>, local: usize, name: &Name) {
        // Of two declarations, one for each branch of an `#if`, the last is known.
        let Some(lanes) = self.scopes.locals[local].lanes.filter(|_| !self.has_conditions) else { return };
        match cursor.tokens.get(cursor.index..) {
            Some([dot, member, ..]) if dot.is('.') => {
                let Some(member) = member.to_name() else { return };
                if has_lanes(lanes, &member.text) {
                    self.component_stored_twice(cursor, &member);
                    return;
                }
                let help = match lanes {
                    1 => "use it without a component: it is one number".to_owned(),
                    _ => format!("use `.{}`", ["x", "y", "z", "w"][..lanes].join("`, `.")),
                };
                let found = format!("`{}` has no component `{}`", name.text, member.text);
                self.mistake(Mistake::new(member.place, found, help));
            }
            Some([Token { kind: Kind::Group(Bracket::Square, _), place, .. }, ..]) if lanes == 1 => {
                let found = format!("`{}` is one number, which has no elements", name.text);
                self.mistake(Mistake::new(*place, found, "use it without an index"));
            }
            _ => {}
        }
    }

    /// Notes a store to a component that is named twice: `v.xx = ..`.
    fn component_stored_twice(&mut self, cursor: &Cursor<'_>, member: &Name) {
        let is_twice = |(at, letter)| member.text[..at].contains::<char>(letter);
        let stores = operator(cursor.tokens, cursor.index + 2)
            .is_some_and(|(found, _)| found == "=" || is_compound_assignment(found));
        if stores && member.text.char_indices().any(is_twice) {
            let found = format!("`{}` names a component twice, so nothing can be stored to it", member.text);
            self.mistake(Mistake::new(member.place, found, "name each component once"));
        }
    }

    /// Notes that an element of an array is read or written.
    pub(super) fn element_of(&mut self, operand: &Operand) {
        for access in operand.accesses.iter().filter(|_| operand.level == Level::Pointer) {
            self.indexed.insert(self.found.accesses[*access].name.text.clone());
        }
    }

    /// Notes a pointer where only a number can stand.
    pub(super) fn number(&mut self, operand: &Operand, is_open: bool) {
        if operand.level != Level::Pointer || !operand.is_bare {
            return;
        }
        let Some(access) = operand.accesses.first().map(|access| &self.found.accesses[*access]) else { return };
        let name = access.through.as_ref().unwrap_or(&access.name.text);
        let found = format!("`{name}` is a pointer, where a number is needed");
        let help = format!("read an element: `{name}[i]`");
        let mistake = Mistake { is_open, ..Mistake::new(access.name.place, found, help) };
        self.as_numbers.push((access.name.text.clone(), mistake));
    }

    /// Notes a position of three components where one number, or a vector of another length, is needed.
    pub(super) fn position(&mut self, value: &[Token], needed: usize) {
        let [Token { kind: Kind::Name(name), place, .. }] = value else { return };
        if ATTRIBUTES.contains(&(name.as_str(), "uint3")) && needed != 3 && !self.is_local(name) {
            let help = match needed {
                1 => format!("write `{name}.x`, `.y` or `.z`"),
                _ => format!("write `{name}.{}`", &"xyzw"[..needed]),
            };
            self.mistake(Mistake::new(*place, format!("`{name}` is a `uint3`"), help));
        }
    }

    /// Notes an index of several values, of which C++ uses the last.
    pub(super) fn index(&mut self, index: &[Token]) {
        self.position(index, 1);
        // A comma may stand between arguments of a template.
        if let Some(comma) = index.iter().find(|token| token.is(','))
            && !index.iter().any(|token| token.is('<'))
        {
            self.mistake(Mistake::new(
                comma.place,
                "an element has one index, and of several the last counts",
                "compute the place from the dimensions: `x[row * D + column]`",
            ));
        }
    }

    /// Notes a call with too few or too many arguments.
    pub(super) fn count_arguments(&mut self, name: &Name, inner: &[Token]) {
        let function = name.text.as_str();
        // A struct may have a method of this name, further down.
        let is_own =
            self.structs > 0 || self.scopes.find(function).is_some() || self.found.everywhere.contains(function);
        let Some(known) = arguments_of(function).filter(|_| !is_own) else { return };
        let count = if inner.is_empty() { 0 } else { inner.split(|token| token.is(',')).count() };
        let is_certain = !inner.iter().any(|token| token.is('<') || matches!(token.kind, Kind::Branch(_)));
        let is_barrier = function.ends_with("_barrier");
        if known.contains(&count) || count > *known.end() && !is_certain {
            return;
        }
        let counted = |count: usize| match count {
            0 => "no argument".to_owned(),
            1 => "one argument".to_owned(),
            count => format!("{count} arguments"),
        };
        let found = format!("`{function}` takes {}, and has {count} here", counted(*known.start()));
        let help = match is_barrier {
            true => format!("say which memory it orders: `{function}(mem_flags::mem_threadgroup)`"),
            false => "correct the call".to_owned(),
        };
        self.mistake(Mistake::without_headers(name.place, found, help));
    }

    /// Notes a `?` without its `:`.
    pub(super) fn alternative_missing(&mut self, place: Place, rest: &[Token]) {
        let has_colon = (0..rest.len()).any(|at| operator(rest, at).is_some_and(|(found, _)| found == ":"));
        if !has_colon && !rest.iter().any(|token| matches!(token.kind, Kind::Branch(_))) {
            self.mistake(Mistake::without_headers(
                place,
                "this `?` has no `:`",
                "write what the value is otherwise: `condition ? value : other`",
            ));
        }
    }

    /// Notes a `for` whose brackets do not hold three parts, or `element : array`.
    pub(super) fn loop_head(&mut self, place: Place, head: &[Token]) {
        let parts = head.split(|token| token.is(';')).count();
        let is_over = (0..head.len()).any(|at| operator(head, at).is_some_and(|(found, _)| found == ":"));
        if parts != 3 && !is_over && !head.iter().any(|token| matches!(token.kind, Kind::Branch(_))) {
            self.mistake(Mistake::without_headers(
                place,
                "this loop is not one of C++",
                "write `for (int j = 0; j < 3; ++j)`",
            ));
        }
    }

    /// Notes a statement that compares and does not use the result.
    pub(super) fn comparison(&mut self, statement: &[Token]) {
        let equals = |at: &usize| operator(statement, *at).is_some_and(|(found, _)| found == "==");
        let at = (0..statement.len()).find(equals).filter(|_| !statement.iter().any(|token| token.is('?')));
        if let Some(at) = at {
            self.mistake(Mistake::new(
                statement[at].place,
                "this statement compares, and does nothing with the answer",
                "write `=` to store",
            ));
        }
    }

    /// Notes an `else` that begins a statement of its own.
    pub(super) fn else_alone(&mut self, place: Place, before: &[Token]) {
        let is_behind_statement =
            before.last().is_none_or(|last| last.is(';') || matches!(last.kind, Kind::Group(Bracket::Brace, _)));
        // An `#if` may stand between the two.
        if is_behind_statement && !self.has_conditions {
            self.mistake(Mistake::without_headers(
                place,
                "this `else` has no `if`",
                "put it directly behind the block of its `if`",
            ));
        }
    }

    /// Notes a condition or a loop without its parentheses.
    pub(super) fn head_missing(&mut self, word: &str, place: Place) {
        let form = if word == "for" { "(int j = 0; j < 3; ++j)" } else { "(condition)" };
        self.mistake(Mistake::without_headers(
            place,
            format!("this `{word}` has no parentheses"),
            format!("write `{word} {form} {{ .. }}`"),
        ));
    }

    /// Notes a `do` that no `while` ends.
    pub(super) fn end_of_do(&mut self, place: Place, next: Option<&Token>) {
        if !self.has_conditions && next.and_then(Token::name) != Some("while") {
            self.mistake(Mistake::without_headers(
                place,
                "this `do` has no `while`",
                "write `do { .. } while (condition);`",
            ));
        }
    }

    /// Notes a function in the body of a kernel, where only a struct may have functions.
    pub(super) fn function_inside(&mut self, head: &[Token], name: &Token) {
        let [first, .., _, _] = head else { return };
        let is_declared =
            first.name().is_some_and(|first| is_type(first) || matches!(first, "auto" | "void" | "inline"));
        if head.len() > 2 && is_declared && self.structs == 0 && name.name().is_some_and(|name| !is_keyword(name)) {
            self.mistake(Mistake::new(
                name.place,
                "a kernel cannot contain a function",
                "put it into a header, `headers = [..]`, or write a macro",
            ));
        }
    }

    /// Notes `a < b < c`, which compares the result of `a < b` with `c`.
    pub(super) fn compared_twice(&mut self, last: &mut Option<char>, operator: &str, place: Option<Place>) {
        let direction = match operator {
            "<" | "<=" => Some('<'),
            ">" | ">=" => Some('>'),
            "+" | "-" | "*" | "/" | "%" => *last,
            _ => None,
        };
        let is_comparison = matches!(operator, "<" | "<=" | ">" | ">=");
        if let (true, Some(place)) = (is_comparison && *last == direction, place) {
            self.mistake(Mistake::new(
                place,
                "the second comparison is with the answer of the first",
                "write `a < b && b < c`",
            ));
        }
        *last = direction;
    }

    /// Notes an index or a component of an element, which is one number.
    pub(super) fn part_of_element(&mut self, cursor: &Cursor<'_>, operand: &Operand) {
        let Some(access) = operand.accesses.first().map(|access| &self.found.accesses[*access]) else { return };
        let name = access.name.text.clone();
        let reaches = |by: &str| operator(cursor.tokens, cursor.index).is_some_and(|(found, _)| found == by);
        let component = |member: &Token| format!("component `{}`", member.name().unwrap_or_default());
        let part = match cursor.tokens.get(cursor.index..) {
            Some([Token { kind: Kind::Group(Bracket::Square, _), place, .. }, ..]) => (*place, "elements".to_owned()),
            Some([_, member, ..]) if reaches(".") && member.name().is_some() => (member.place, component(member)),
            Some([_, _, member, ..]) if reaches("->") && member.name().is_some() => (member.place, component(member)),
            _ => return,
        };
        let found = format!("an element of `{name}` is one number, which has no {}", part.1);
        let help =
            format!("compute one index from the dimensions, or cast the pointer: `((device float4*){name})[i].x`");
        self.mistake(Mistake::new(part.0, found, help));
    }

    /// Notes a pointer or reference whose declaration, up to its name, does not say which memory it points into.
    pub(super) fn space_missing(&mut self, before: &[Token], element: &Option<String>, name: &Token) {
        let is_space = |token: &Token| matches!(token.name(), Some("device" | "constant" | "thread" | "threadgroup"));
        let is_plain = element.as_ref().is_some_and(|ty| is_type(ty) && !self.types.contains(ty));
        let is_indirect = before.last().is_some_and(|last| last.is('*') || last.is('&'));
        if is_plain && is_indirect && !before.iter().any(is_space) {
            let Some(name) = name.to_name() else { return };
            self.mistake(Mistake::without_headers(
                name.place,
                format!("nothing says which memory `{}` points into", name.text),
                "write the address space in front of the type: `device`, `constant`, `threadgroup` or `thread`",
            ));
        }
    }

    /// Notes a change of a variable that its declaration calls constant.
    pub(super) fn constant_changed(&mut self, operand: &Operand) {
        let local = operand.local.filter(|_| operand.is_bare && !self.has_conditions);
        if let Some(name) = local.and_then(|local| self.scopes.locals[local].constant.clone())
            && let Some(place) = operand.place
        {
            self.mistake(Mistake::new(
                place,
                format!("`{name}` is constant, and is changed here"),
                "leave `const` out of its declaration",
            ));
        }
    }

    /// Notes the namespace of a path that neither Metal nor the source has.
    pub(super) fn namespace(&mut self, first: &Name) {
        let name = first.text.as_str();
        let is_known = NAMESPACES.contains(&name)
            || is_type(name)
            || is_keyword(name)
            || self.types.contains(name)
            || self.found.declared.contains(name);
        if !is_known {
            self.found.namespaces.push(first.clone());
        }
    }

    /// Returns the number of lanes of a variable of this type, if it is a number or a vector.
    pub(super) fn lanes_of(&self, ty: Option<&String>) -> Option<usize> {
        ty.filter(|ty| !self.types.contains(*ty)).and_then(|ty| lanes(ty))
    }
}
