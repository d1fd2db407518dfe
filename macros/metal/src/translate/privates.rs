//! Private variables that are declared without a value. The emulator learns where each lies, and so finds a read that
//! no write came before. `float m;` becomes `float m_unset_; auto& m = metal::unset(m_unset_, "m");`, because compilers
//! watch memory behind a pointer, but not what they can keep in a register. A `metal::scope_of` follows, which ends with the scope.

use super::lexer::Kind;
use super::rewrite::Writer;

/// An open brace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Brace {
    /// Whether the brace encloses code.
    code: bool,
    /// Whether the brace is that of a `switch`.
    switch: bool,
}

/// Words with which no declaration of a variable without a value begins.
const OTHERS: &[&str] = &[
    "return",
    "using",
    "typedef",
    "struct",
    "class",
    "union",
    "enum",
    "goto",
    "break",
    "continue",
    "else",
    "do",
    "case",
    "default",
    "extern",
    "friend",
    "template",
    "typename",
    "namespace",
    "static",
    "constexpr",
    "operator",
    "delete",
    "new",
    "threadgroup",
];

/// Words that make up a type together.
const PARTS: &[&str] = &["unsigned", "signed", "long", "short", "int", "char", "volatile"];

impl Writer<'_, '_> {
    /// If variables without a value are declared from `i` on: has their places given behind the declaration.
    pub(super) fn note_valueless(&mut self, i: usize, end: usize) {
        if !self.target.is_host() {
            return;
        }
        let Some((stop, names)) = self.valueless(i, end) else { return };
        let text = |n: usize| self.tokens[n].text;
        let place = |&n: &usize| {
            let declared = "auto& {} = metal::unset({}_unset_, \"{}\"); metal::scope_of {}_scope_({}_unset_);";
            format!(" {}", declared.replace("{}", text(n)))
        };
        // If a later variable of the declaration is made from an earlier one, the declaration stays as it is.
        let mentions = |n: &usize| (*n + 1..stop).filter(|&m| text(m) == text(*n)).count();
        if names.iter().any(|n| mentions(n) > 0) {
            return;
        }
        self.after.push((stop, names.iter().map(place).collect()));
        self.renamed.extend(names);
    }

    /// The semicolon that ends the declaration, and the names.
    fn valueless(&self, i: usize, end: usize) -> Option<(usize, Vec<usize>)> {
        // A `case` cannot jump over a reference.
        if !self.in_code()
            || self.braces.last().is_some_and(|brace| brace.switch)
            || !self.starts_statement(i)
            || OTHERS.contains(&self.tokens[i].text)
        {
            return None;
        }
        let mut at = i;
        let mut points = false;
        while ["device", "constant", "thread"].contains(&self.tokens[at].text) {
            points = true;
            at = self.next_significant(at + 1, end)?;
        }
        at = self.after_type(at, end)?;
        let mut names = Vec::new();
        loop {
            while points && (self.tokens[at].is('*') || self.tokens[at].text == "const") {
                at = self.next_significant(at + 1, end)?;
            }
            let name = Some(at).filter(|&at| self.tokens[at].kind == Kind::Identifier)?;
            let first = self.next_significant(name + 1, end)?;
            let next = self.after_brackets(first, end)?;
            if self.tokens[next].is(';') || self.tokens[next].is(',') {
                names.push(name);
            } else if !['=', '(', '{'].iter().any(|&c| self.tokens[next].is(c)) {
                return None;
            }
            let stop = self.declarator_end(next, end)?;
            if self.tokens[stop].is(';') {
                return (!names.is_empty()).then_some((stop, names));
            }
            at = self.next_significant(stop + 1, end)?;
        }
    }

    /// Returns the place after the type that begins at `at`.
    fn after_type(&self, mut at: usize, end: usize) -> Option<usize> {
        let (start, mut qualified) = (at, true);
        while PARTS.contains(&self.tokens[at].text) {
            qualified &= self.tokens[at].text == "volatile";
            at = self.next_significant(at + 1, end)?;
        }
        if at != start && !qualified {
            return Some(at);
        }
        loop {
            if self.tokens[at].kind != Kind::Identifier {
                return None;
            }
            at = self.next_significant(at + 1, end)?;
            if self.tokens[at].is('<') {
                at = self.next_significant(self.angle_end(at, end)? + 1, end)?;
            }
            if !self.tokens[at].is(':') {
                return Some(at);
            }
            at = self.next_significant(at + 1, end).filter(|&n| self.tokens[n].is(':'))?;
            at = self.next_significant(at + 1, end)?;
        }
    }

    /// The `>` that closes the `<` at `open`.
    pub(super) fn angle_end(&self, open: usize, end: usize) -> Option<usize> {
        let mut depth = 0;
        (open..end).take_while(|&n| !self.tokens[n].is(';')).find(|&n| {
            depth += i32::from(self.tokens[n].is('<')) - i32::from(self.tokens[n].is('>'));
            depth == 0
        })
    }

    /// The first token from `at` on that is no `[…]`.
    fn after_brackets(&self, mut at: usize, end: usize) -> Option<usize> {
        while self.tokens[at].is('[') {
            let mut depth = 0;
            let close = (at..end).find(|&n| {
                depth += i32::from(self.tokens[n].is('[')) - i32::from(self.tokens[n].is(']'));
                depth == 0
            })?;
            at = self.next_significant(close + 1, end)?;
        }
        Some(at)
    }

    /// The `,` or `;` outside all brackets that ends a declarator.
    pub(super) fn declarator_end(&self, from: usize, end: usize) -> Option<usize> {
        let mut depth = 0;
        (from..end).find(|&n| {
            let t = &self.tokens[n];
            depth += i32::from(t.is('(') || t.is('[') || t.is('{')) - i32::from(t.is(')') || t.is(']') || t.is('}'));
            depth == 0 && (t.is(',') || t.is(';'))
        })
    }

    /// Takes note of the brace at `i`, which opens code or something else: a struct, a namespace, a list of values.
    pub(super) fn open_brace(&mut self, i: usize) {
        let mut switch = false;
        let code = match self.previous_significant(i) {
            None => self.in_code(),
            Some(t) if t.is(')') => {
                switch = self.word_before_parenthesis(i) == Some("switch");
                true
            }
            Some(t) if [';', '{', '}', ':'].iter().any(|&c| t.is(c)) => self.in_code(),
            Some(t) => ["else", "do", "const", "thread", "noexcept"].contains(&t.text),
        };
        self.braces.push(Brace { code, switch });
    }

    pub(super) fn in_code(&self) -> bool {
        self.braces.last().map_or(!self.context.is_header && !self.context.is_macro, |brace| brace.code)
    }

    /// The word in front of the parenthesis that ends before token `i`.
    fn word_before_parenthesis(&self, i: usize) -> Option<&str> {
        let mut depth = 0;
        let open = (0..i).rev().find(|&n| {
            depth += i32::from(self.tokens[n].is(')')) - i32::from(self.tokens[n].is('('));
            depth == 0 && self.tokens[n].is('(')
        })?;
        self.previous_significant(open).map(|t| t.text)
    }
}
