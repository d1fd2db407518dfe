//! What a kernel text does with names: which it declares, reads, stores to and accumulates into.
//!
//! This is no C++ parser. It knows declarations, assignments and calls well enough to be sure of what it reports; what it
//! does not understand it passes over.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{ATTRIBUTES, is_collective, is_keyword, is_type, size_of};
use super::neighbours::{
    assignment, begins_with, directive_starts, is_doubled, is_handed_on, is_member, is_scope, line_end,
    opens_parameters, skip_path, skip_template,
};
use super::token::{self, Bracket, Kind, Name, Place, Token};
use crate::model::expression::Polynomial;

/// What was found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Names that the text declares itself: variables, parameters, types, macros.
    pub declared: BTreeSet<String>,
    /// Names in the place of a value, in the order of the text.
    pub accesses: Vec<Access>,
    /// Threadgroup arrays.
    pub threadgroup: Vec<Shared>,
    /// Places where the text says `double`.
    pub doubles: Vec<Place>,
    /// Variables named by a word that the language keeps for itself.
    pub reserved: Vec<Name>,
    /// Quotes that begin no character: numbers with separators, which Rust lexes as a lifetime.
    pub quotes: Vec<Place>,
    /// `#include`s.
    pub includes: Vec<Place>,
    /// Values of integer constants that the text defines, as text.
    constants: BTreeMap<String, String>,
    /// How many braces and branches are open.
    depth: usize,
}

/// An array in threadgroup memory.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Its name.
    pub name: Name,
    /// Its bytes, where its lengths are literal or named by the declaration; a dtype stands for the bytes of one element.
    pub bytes: Option<Polynomial>,
    /// Whether it is there in every case: outside all braces and branches.
    pub is_outermost: bool,
}

/// One use of a name as a value.
#[derive(Debug, Clone)]
pub struct Access {
    /// The name.
    pub name: Name,
    /// What happens to it.
    pub kind: AccessKind,
}

/// What happens to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessKind {
    /// Its value is used.
    Read,
    /// It is assigned to.
    Store,
    /// It is changed in place: `+=`, `++`.
    Accumulate,
    /// Its address goes somewhere, so that it may be read or written there.
    Address,
    /// Its address goes to an atomic operation.
    Atomic,
    /// It is called.
    Call,
}

impl Scan {
    /// Scans a text.
    pub fn of(tokens: &[Token]) -> Self {
        let mut scan = Self::default();
        scan.statements(tokens);
        scan.accesses(tokens, false);
        scan
    }

    /// The attributes that the text reads, each once.
    pub fn attributes(&self) -> BTreeSet<&str> {
        let names = self.accesses.iter().map(|access| access.name.text.as_str());
        names.filter(|name| ATTRIBUTES.contains(name)).collect()
    }

    /// The operations in which threads meet, each once.
    pub fn collectives(&self) -> BTreeSet<&str> {
        let called = self.accesses.iter().filter(|access| access.kind == AccessKind::Call);
        called.map(|access| access.name.text.as_str()).filter(|name| is_collective(name)).collect()
    }

    /// The uses of one name.
    pub fn of_name<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (usize, &'a Access)> {
        self.accesses.iter().enumerate().filter(move |(_, access)| access.name.text == name)
    }

    /// Splits a stream into statements and reads the declarations among them.
    fn statements(&mut self, tokens: &[Token]) {
        let mut start = 0;
        let mut index = 0;
        while index < tokens.len() {
            match &tokens[index].kind {
                Kind::Punct('#') if index == start => {
                    let end = line_end(tokens, index);
                    self.directive(&tokens[index..end]);
                    start = end;
                    index = end;
                    continue;
                }
                Kind::Punct(';') => {
                    self.declaration(&tokens[start..index]);
                    start = index + 1;
                }
                // `case 1:` and labels; `::` is joint with the next colon or the second of two.
                Kind::Punct(':') if begins_with(&tokens[start..], &["case", "default"]) => start = index + 1,
                Kind::Group(Bracket::Brace, inner) => {
                    let is_initialiser = index > start && tokens[index - 1].is('=');
                    self.depth += 1;
                    self.statements(inner);
                    self.depth -= 1;
                    if !is_initialiser {
                        self.declaration(&tokens[start..index]);
                        start = index + 1;
                    }
                }
                Kind::Group(bracket, inner) => {
                    self.statements(inner);
                    let before = index.checked_sub(1).map(|before| &tokens[before]);
                    if *bracket == Bracket::Parenthesis && opens_parameters(before) {
                        self.parameters(inner);
                    }
                    let visitors = ["tile_for_each", "tile_with_rows"];
                    if before.and_then(Token::name).is_some_and(|name| visitors.contains(&name)) {
                        self.elements(inner);
                    }
                    // The statement behind `if (..)`, `for (..)`, `while (..)`.
                    let heads = ["if", "for", "while", "switch"];
                    if before.and_then(Token::name).is_some_and(|name| heads.contains(&name)) {
                        start = index + 1;
                    }
                }
                Kind::Branch(inner) => {
                    let arrays = self.threadgroup.len();
                    self.depth += 1;
                    self.statements(inner);
                    self.depth -= 1;
                    // They stand instead of those of the first branch, not beside them.
                    self.threadgroup.truncate(arrays);
                    if index == start {
                        start = index + 1;
                    }
                }
                Kind::Name(name) if name == "else" || name == "do" => start = index + 1,
                _ => {}
            }
            index += 1;
        }
        self.declaration(&tokens[start.min(tokens.len())..]);
    }

    fn directive(&mut self, tokens: &[Token]) {
        match tokens.get(1).and_then(Token::name) {
            Some("define") => {
                self.declared.extend(tokens.get(2).and_then(Token::name).map(str::to_owned));
                match (tokens.get(2).and_then(Token::name), tokens.get(3).map(|token| &token.kind)) {
                    (_, Some(Kind::Group(_, parameters))) => {
                        self.declared.extend(token::names(parameters).into_iter().map(str::to_owned));
                    }
                    (Some(name), Some(_)) => self.define(name, &tokens[3..]),
                    _ => {}
                }
            }
            Some("include") => self.includes.push(tokens[1].place),
            _ => {}
        }
    }

    /// The parameters of a function or lambda: each is a declaration.
    fn parameters(&mut self, tokens: &[Token]) {
        for parameter in tokens.split(|token| token.is(',')) {
            self.declaration(parameter);
        }
    }

    /// `tile_for_each(tile, row, column, value)`: all names but those of tiles are new.
    fn elements(&mut self, tokens: &[Token]) {
        for argument in tokens.split(|token| token.is(',')) {
            if let [Token { kind: Kind::Name(name), .. }] = argument {
                self.declared.insert(name.clone());
            }
        }
    }

    /// `qualifiers type declarator, declarator`: the names in it, if it is one.
    fn declaration(&mut self, statement: &[Token]) {
        let name_at = |index: usize| statement.get(index).and_then(Token::name);
        let mut index = 0;
        let mut is_threadgroup = false;
        let mut is_constant = false;
        let mut qualified = false;
        while let Some(word) = name_at(index) {
            match word {
                "threadgroup" => is_threadgroup = true,
                "struct" | "union" | "enum" | "using" | "typename" | "class" => {
                    self.declared.extend(name_at(index + 1).map(str::to_owned));
                }
                "typedef" => {
                    self.declared.extend(statement.last().and_then(Token::name).map(str::to_owned));
                }
                "const" | "constexpr" => is_constant = true,
                "constant" | "device" | "thread" | "static" | "volatile" | "inline" => {}
                "unsigned" | "signed" | "auto" => qualified = true,
                "return" | "goto" | "break" | "continue" | "case" | "default" => return,
                _ => break,
            }
            index += 1;
        }
        let mut element = None;
        if let Some(ty) = name_at(index) {
            // `unsigned x`: the type is in the qualifier. `unsigned int x`: it goes on.
            if !qualified || is_type(ty) || name_at(index + 1).is_some() {
                element = Some(ty.to_owned());
                index += 1;
                index = skip_path(statement, index, &mut element);
            }
        } else if !qualified {
            return;
        }
        index = skip_template(statement, index);
        loop {
            while statement.get(index).is_some_and(|token| token.is('*') || token.is('&'))
                || name_at(index).is_some_and(|word| word == "const" || word == "restrict")
            {
                index += 1;
            }
            let Some(name) = statement.get(index).and_then(Token::to_name) else { return };
            let next = statement.get(index + 1);
            let declares = match next.map(|next| &next.kind) {
                None | Some(Kind::Group(..) | Kind::Branch(_)) => true,
                Some(Kind::Punct(punct)) => matches!(punct, '=' | ',' | ':' | ';'),
                _ => false,
            };
            if !declares {
                return;
            }
            if is_keyword(&name.text) {
                // `float thread = ..`, but not `else if (..)` behind a word this does not know.
                if element.as_deref().is_some_and(is_type) && next.is_some_and(|next| next.is('=')) {
                    self.reserved.push(name);
                }
                return;
            }
            self.declared.insert(name.text.clone());
            let end = statement[index..].iter().position(|token| token.is(',')).map(|comma| index + comma);
            if is_constant && next.is_some_and(|next| next.is('=')) {
                self.define(&name.text, &statement[index + 2..end.unwrap_or(statement.len())]);
            }
            if is_threadgroup {
                let bytes = self.threadgroup_bytes(element.as_deref(), &statement[index + 1..]);
                self.threadgroup.push(Shared { name, bytes, is_outermost: self.depth == 0 });
            }
            // To the next declarator.
            match end {
                Some(comma) => index = comma + 1,
                None => return,
            }
        }
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

    /// Bytes of `name[4][8]`, with the constants of the text in place of their names.
    fn threadgroup_bytes(&self, element: Option<&str>, behind: &[Token]) -> Option<Polynomial> {
        let element = element?;
        let mut bytes = size_of(element).map_or_else(|| Polynomial::symbol(element), Polynomial::constant);
        for token in behind {
            let Kind::Group(Bracket::Square, length) = &token.kind else { break };
            let length: syn::Expr = syn::parse_str(&self.substituted(length)).ok()?;
            bytes = bytes.multiply(&crate::parse::expression::read(&length).ok()?)?;
        }
        Some(bytes)
    }

    /// Finds names in the place of values.
    fn accesses(&mut self, tokens: &[Token], in_atomic_call: bool) {
        let mut index = 0;
        while index < tokens.len() {
            match &tokens[index].kind {
                Kind::Punct('#') if directive_starts(tokens, index) => {
                    index = line_end(tokens, index);
                    continue;
                }
                Kind::Punct('\'') => {
                    self.quotes.push(tokens[index].place);
                    // The name of the lifetime.
                    index += 1;
                }
                Kind::Name(name) => self.access(tokens, index, name, in_atomic_call),
                Kind::Group(bracket, inner) => {
                    // `[[unroll]]`
                    let is_attribute = *bracket == Bracket::Square
                        && matches!(inner.as_slice(), [Token { kind: Kind::Group(Bracket::Square, _), .. }]);
                    if !is_attribute {
                        let before = index.checked_sub(1).and_then(|before| tokens[before].name());
                        let atomic = *bracket == Bracket::Parenthesis
                            && before.is_some_and(|function| function.starts_with("atomic_"));
                        self.accesses(inner, atomic);
                    }
                }
                Kind::Branch(inner) => self.accesses(inner, in_atomic_call),
                Kind::Punct(_) | Kind::Literal(_) => {}
            }
            index += 1;
        }
    }

    fn access(&mut self, tokens: &[Token], index: usize, text: &str, in_atomic_call: bool) {
        let place = tokens[index].place;
        if text == "double" || text.strip_prefix("double").is_some_and(|lanes| matches!(lanes, "2" | "3" | "4")) {
            self.doubles.push(place);
        }
        if is_keyword(text) || is_member(tokens, index) || is_scope(tokens, index + 1) {
            return;
        }
        // Behind the name: indices and members.
        let mut next = index + 1;
        let mut indexed = false;
        loop {
            match tokens.get(next).map(|token| &token.kind) {
                Some(Kind::Group(Bracket::Square, _)) => {
                    indexed = true;
                    next += 1;
                }
                Some(Kind::Punct('.')) if tokens.get(next + 1).is_some_and(|member| member.name().is_some()) => {
                    next += 2
                }
                _ => break,
            }
        }
        let preceded = |character: char| index > 0 && tokens[index - 1].is(character);
        let binary_before = index >= 2 && !matches!(tokens[index - 2].kind, Kind::Punct(_));
        // `as_type<float>(x)`, `numeric_limits<float>::max()`
        let behind_template = skip_template(tokens, index + 1);
        if behind_template > index + 1 && is_scope(tokens, behind_template) {
            return;
        }
        let is_called = next == index + 1
            && matches!(tokens.get(behind_template), Some(Token { kind: Kind::Group(Bracket::Parenthesis, _), .. }));
        let kind = if is_called {
            AccessKind::Call
        } else if let Some(kind) = assignment(tokens, next) {
            kind
        } else if in_atomic_call && (preceded('&') || !indexed) && index < 3 {
            AccessKind::Atomic
        } else if (preceded('+') || preceded('-')) && is_doubled(tokens, index) {
            AccessKind::Accumulate
        } else if (preceded('&') && !binary_before) || (!indexed && is_handed_on(tokens, index, next)) {
            AccessKind::Address
        } else {
            AccessKind::Read
        };
        self.accesses.push(Access { name: Name { text: text.to_owned(), place }, kind });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All but the places.
    fn summary(scan: &Scan) -> (BTreeSet<String>, Vec<(String, AccessKind)>, Vec<Option<Polynomial>>, usize) {
        let accesses = scan.accesses.iter().map(|access| (access.name.text.clone(), access.kind)).collect();
        let threadgroup = scan.threadgroup.iter().map(|shared| shared.bytes.clone()).collect();
        (scan.declared.clone(), accesses, threadgroup, scan.reserved.len())
    }

    fn scan(text: &str) -> Scan {
        let (from_file, mistakes) = super::super::lexer::lex(text);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let scan = Scan::of(&token::from_rust(text.parse().unwrap()));
        // Text in a file means the same.
        assert_eq!(format!("{:?}", summary(&scan)), format!("{:?}", summary(&Scan::of(&from_file))), "{text}");
        scan
    }

    #[test]
    fn declarations_are_found_wherever_they_stand() {
        let found = scan(
            "uint i = thread_position_in_grid.x, j;\n\
             const device float* p = x + i;\n\
             threadgroup float tile_a[16][17];\n\
             #define LANES 32\n\
             for (int k = 0; k < 4; ++k) { vec<float, 4> v; metal::array<int, 3> w = {}; }\n\
             auto square = [&](float a, float b) { return a * b; };\n\
             if (i > 3) float late = 1.0f;\n\
             unsigned u = 3; unsigned int n = 4;\n\
             struct Pair { float first; int second; };",
        );
        for name in [
            "i", "j", "p", "tile_a", "LANES", "k", "v", "w", "square", "a", "b", "late", "u", "n", "Pair", "first",
            "second",
        ] {
            assert!(found.declared.contains(name), "{name}: {:?}", found.declared);
        }
        assert_eq!(found.threadgroup[0].bytes, Some(Polynomial::constant(16 * 17 * 4)));
    }

    #[test]
    fn nothing_that_metal_allows_seems_undeclared() {
        for text in [
            "uint bits = as_type<uint>(1.0f); float top = numeric_limits<float>::max();",
            "const auto n = uint(3); T acc[4]{}; float4 v = {1, 2, 3, 4}, w = v.wzyx;",
            "if constexpr (sizeof(T) == 4) { half late = half(1); late += 1.0h; }",
            "for (ushort i = 0, end = 4; i < end; i += 2) { simdgroup_float8x8 m; simdgroup_load(m, &i, 8); }",
            "threadgroup_barrier(mem_flags::mem_threadgroup); float s = simd_sum(metal::precise::exp(-INFINITY));",
            "auto f = [=](float a, thread float& b) -> float { b = a; return a > b ? a : -b; };",
            "constexpr int LANES = 32; threadgroup float part[LANES * 2]; part[0] = M_PI_F;",
            "typedef vec<float, 2> pair; pair p = pair(1, 2); using other = half; other q = other(p.x);",
            "#define SQUARE(z) ((z) * (z))\nfloat r = SQUARE(2.0f);\nfloat last = r;",
            "tile<float, 16, 16> t(0.0f); tile_for_each(t, row, column, value) { value += row * column; }",
            "tile_rows<int> m(0); tile<int, 16, 16> u; tile_with_rows(u, m, r, c, x, of_row) { x = of_row + r - c; }",
            "switch (3) { case 1: { int one = 1; one++; break; } default: break; }",
            "do { int k = 0; while (k < 3) ++k; } while (false);",
        ] {
            let found = scan(text);
            let unknown: Vec<String> = found
                .accesses
                .iter()
                .filter(|access| access.kind != AccessKind::Call)
                .map(|access| access.name.text.clone())
                .filter(|name| {
                    let known =
                        found.declared.contains(name) || is_type(name) || super::super::names::is_constant(name);
                    !known && name != "T"
                })
                .collect();
            assert_eq!(unknown, Vec::<String>::new(), "{text}\n{:?}", found.declared);
        }
    }

    #[test]
    fn lengths_of_threadgroup_arrays_follow_constants_of_the_text() {
        for (text, expected) in [
            ("threadgroup float a[8][4];", vec![Some("128")]),
            ("constexpr int LANES = 32, ROWS = LANES / 4; threadgroup half a[ROWS * 2u][LANES];", vec![Some("1024")]),
            (
                "#define TILE 16\n#define AREA (TILE * TILE)\nthreadgroup float a[TILE]; threadgroup float b[TILE];",
                vec![Some("64"), Some("64")],
            ),
            ("const uint n = 4; { const uint n = 8; threadgroup float a[n]; }", vec![None]),
            ("threadgroup float a[D]; threadgroup T b[4];", vec![Some("4 * D"), Some("4 * T")]),
        ] {
            let found = scan(text).threadgroup;
            let sizes: Vec<Option<String>> =
                found.iter().map(|shared| shared.bytes.as_ref().map(Polynomial::to_string)).collect();
            assert_eq!(sizes, expected.iter().map(|bytes| bytes.map(str::to_owned)).collect::<Vec<_>>(), "{text}");
        }
        let (tokens, _) =
            super::super::lexer::lex("#if A\nthreadgroup int a[4];\n#else\nthreadgroup int a[8];\n#endif");
        assert_eq!(Scan::of(&tokens).threadgroup.len(), 1);
    }

    #[test]
    fn reserved_words_are_no_variables() {
        for (text, expected) in [
            ("uint thread = 3;", vec!["thread"]),
            ("const float device = 1.0f;", vec!["device"]),
            ("uint threads = 3;", vec![]),
        ] {
            let names: Vec<String> = scan(text).reserved.iter().map(|name| name.text.clone()).collect();
            assert_eq!(names, expected, "{text}");
        }
    }

    #[test]
    fn uses_are_told_apart() {
        for (text, expected) in [
            ("y[i] = 1;", AccessKind::Store),
            ("y[i].x = 1;", AccessKind::Store),
            ("y[i] += 1;", AccessKind::Accumulate),
            ("y[i] <<= 1;", AccessKind::Accumulate),
            ("y[i]++;", AccessKind::Accumulate),
            ("float a = y[i] * 2;", AccessKind::Read),
            ("if (y[i] == 1) return;", AccessKind::Read),
            ("if (y[i] <= 1) return;", AccessKind::Read),
            ("store(y, 3);", AccessKind::Address),
            ("device float* p = y + 3;", AccessKind::Address),
            ("device float* p = &y[3];", AccessKind::Address),
            ("atomic_fetch_add_explicit(&y[i], 1.0f, memory_order_relaxed);", AccessKind::Atomic),
        ] {
            let found = scan(text);
            let kind = found.accesses.iter().find(|access| access.name.text == "y").map(|access| access.kind);
            assert_eq!(kind, Some(expected), "{text}");
        }
    }

    #[test]
    fn members_scopes_and_attributes_are_no_values() {
        let found = scan("[[unroll]] for (;;) { a.y = metal::y(3); p->y = mem_flags::y; }\n#pragma y y");
        assert!(found.accesses.iter().all(|access| access.name.text != "y"), "{:?}", found.accesses);
    }
}
