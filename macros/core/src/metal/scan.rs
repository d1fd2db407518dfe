//! What a kernel text does with names: which it declares, reads, stores to and accumulates into.
//!
//! This is no C++ parser. It knows declarations, assignments and calls well enough to be sure of what it reports; what it
//! does not understand it passes over.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

use super::names::{is_keyword, is_type, size_of};

/// What was found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Names that the text declares itself: variables, parameters, types, macros.
    pub declared: BTreeSet<String>,
    /// Names in the place of a value, in the order of the text.
    pub accesses: Vec<Access>,
    /// Threadgroup arrays with their bytes, where those are literal.
    pub threadgroup: Vec<(Ident, Option<i64>)>,
    /// Places where the text says `double`.
    pub doubles: Vec<Span>,
    /// Variables named by a word that the language keeps for itself.
    pub reserved: Vec<Ident>,
}

/// One use of a name as a value.
#[derive(Debug, Clone)]
pub struct Access {
    /// The name.
    pub name: Ident,
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
    pub fn of(tokens: &TokenStream) -> Self {
        let mut scan = Self::default();
        let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
        scan.statements(&tokens);
        scan.accesses(&tokens, false);
        scan
    }

    /// The uses of one name.
    pub fn of_name<'a>(&'a self, name: &'a Ident) -> impl Iterator<Item = (usize, &'a Access)> {
        self.accesses.iter().enumerate().filter(move |(_, access)| access.name == *name)
    }

    /// Splits a stream into statements and reads the declarations among them.
    fn statements(&mut self, tokens: &[TokenTree]) {
        let mut start = 0;
        let mut index = 0;
        while index < tokens.len() {
            match &tokens[index] {
                TokenTree::Punct(punct) if punct.as_char() == '#' && index == start => {
                    // A directive ends with its line.
                    let line = punct.span().start().line;
                    let mut end = index + 1;
                    while end < tokens.len() && tokens[end].span().start().line == line {
                        end += 1;
                    }
                    self.directive(&tokens[index..end]);
                    start = end;
                    index = end;
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ';' => {
                    self.declaration(&tokens[start..index]);
                    start = index + 1;
                }
                // `case 1:` and labels; `::` is joint with the next colon or the second of two.
                TokenTree::Punct(punct)
                    if punct.as_char() == ':' && begins_with(&tokens[start..], &["case", "default"]) =>
                {
                    start = index + 1;
                }
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    let is_initialiser = index > start
                        && matches!(&tokens[index - 1], TokenTree::Punct(punct) if punct.as_char() == '=');
                    self.nested(group);
                    if !is_initialiser {
                        self.declaration(&tokens[start..index]);
                        start = index + 1;
                    }
                }
                TokenTree::Group(group) => {
                    self.nested(group);
                    let before = index.checked_sub(1).map(|before| &tokens[before]);
                    if group.delimiter() == Delimiter::Parenthesis && opens_parameters(before) {
                        self.parameters(group);
                    }
                    if matches!(before, Some(TokenTree::Ident(name)) if ["tile_for_each", "tile_with_rows"].iter().any(|word| name == word))
                    {
                        self.elements(group);
                    }
                    // The statement behind `if (..)`, `for (..)`, `while (..)`.
                    if matches!(before, Some(TokenTree::Ident(name)) if ["if", "for", "while", "switch"].iter().any(|word| name == word))
                    {
                        start = index + 1;
                    }
                }
                TokenTree::Ident(name) if name == "else" || name == "do" => start = index + 1,
                _ => {}
            }
            index += 1;
        }
        self.declaration(&tokens[start.min(tokens.len())..]);
    }

    fn nested(&mut self, group: &Group) {
        let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
        self.statements(&tokens);
    }

    fn directive(&mut self, tokens: &[TokenTree]) {
        if let [_, TokenTree::Ident(define), TokenTree::Ident(name), rest @ ..] = tokens
            && define == "define"
        {
            self.declared.insert(name.to_string());
            if let Some(TokenTree::Group(parameters)) = rest.first() {
                let mut names = Vec::new();
                crate::parse::declaration::collect_identifiers(parameters.stream(), &mut names);
                self.declared.extend(names.iter().map(Ident::to_string));
            }
        }
    }

    /// The parameters of a function or lambda: each is a declaration.
    fn parameters(&mut self, group: &Group) {
        let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
        for parameter in tokens.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')) {
            self.declaration(parameter);
        }
    }

    /// `tile_for_each(tile, row, column, value)`: all names but those of tiles are new.
    fn elements(&mut self, group: &Group) {
        let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
        for argument in tokens.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')) {
            if let [TokenTree::Ident(name)] = argument {
                self.declared.insert(name.to_string());
            }
        }
    }

    /// `qualifiers type declarator, declarator`: the names in it, if it is one.
    fn declaration(&mut self, statement: &[TokenTree]) {
        let mut index = 0;
        let mut is_threadgroup = false;
        let mut qualified = false;
        while let Some(TokenTree::Ident(word)) = statement.get(index) {
            match word.to_string().as_str() {
                "threadgroup" => is_threadgroup = true,
                "struct" | "union" | "enum" | "using" | "typename" | "class" => {
                    if let Some(TokenTree::Ident(name)) = statement.get(index + 1) {
                        self.declared.insert(name.to_string());
                    }
                }
                "typedef" => {
                    if let Some(TokenTree::Ident(name)) = statement.last() {
                        self.declared.insert(name.to_string());
                    }
                }
                "const" | "constexpr" | "constant" | "device" | "thread" | "static" | "volatile" | "inline" => {}
                "unsigned" | "signed" | "auto" => qualified = true,
                "return" | "goto" | "break" | "continue" | "case" | "default" => return,
                _ => break,
            }
            index += 1;
        }
        let mut element = None;
        if let Some(TokenTree::Ident(ty)) = statement.get(index) {
            // `unsigned x`: the type is in the qualifier. `unsigned int x`: it goes on.
            let next_is_name = matches!(statement.get(index + 1), Some(TokenTree::Ident(_)));
            if !qualified || is_type(&ty.to_string()) || next_is_name {
                element = Some(ty.to_string());
                index += 1;
                index = skip_path(statement, index, &mut element);
            }
        } else if !qualified {
            return;
        }
        index = skip_template(statement, index);
        loop {
            while matches!(statement.get(index), Some(TokenTree::Punct(punct)) if matches!(punct.as_char(), '*' | '&'))
                || matches!(statement.get(index), Some(TokenTree::Ident(word)) if word == "const" || word == "restrict")
            {
                index += 1;
            }
            let Some(TokenTree::Ident(name)) = statement.get(index) else { return };
            let next = statement.get(index + 1);
            let declares = match next {
                None | Some(TokenTree::Group(_)) => true,
                Some(TokenTree::Punct(punct)) => matches!(punct.as_char(), '=' | ',' | ':' | ';'),
                _ => false,
            };
            if !declares {
                return;
            }
            if is_keyword(&name.to_string()) {
                // `float thread = ..`, but not `else if (..)` behind a word this does not know.
                if element.as_deref().is_some_and(is_type)
                    && matches!(next, Some(TokenTree::Punct(punct)) if punct.as_char() == '=')
                {
                    self.reserved.push(name.clone());
                }
                return;
            }
            self.declared.insert(name.to_string());
            if is_threadgroup {
                let bytes = threadgroup_bytes(element.as_deref(), &statement[index + 1..]);
                self.threadgroup.push((name.clone(), bytes));
            }
            // To the next declarator.
            match statement[index..]
                .iter()
                .position(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ','))
            {
                Some(comma) => index += comma + 1,
                None => return,
            }
        }
    }

    /// Finds names in the place of values.
    fn accesses(&mut self, tokens: &[TokenTree], in_atomic_call: bool) {
        let mut index = 0;
        while index < tokens.len() {
            match &tokens[index] {
                TokenTree::Punct(punct) if punct.as_char() == '#' && directive_starts(tokens, index) => {
                    let line = punct.span().start().line;
                    while index < tokens.len() && tokens[index].span().start().line == line {
                        index += 1;
                    }
                    continue;
                }
                TokenTree::Ident(name) => self.access(tokens, index, name, in_atomic_call),
                TokenTree::Group(group) => {
                    // `[[unroll]]`
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    let is_attribute = group.delimiter() == Delimiter::Bracket
                        && matches!(inner.as_slice(), [TokenTree::Group(inner)] if inner.delimiter() == Delimiter::Bracket);
                    if !is_attribute {
                        let atomic = group.delimiter() == Delimiter::Parenthesis
                            && matches!(index.checked_sub(1).map(|before| &tokens[before]),
                                Some(TokenTree::Ident(function)) if function.to_string().starts_with("atomic_"));
                        self.accesses(&inner, atomic);
                    }
                }
                _ => {}
            }
            index += 1;
        }
    }

    fn access(&mut self, tokens: &[TokenTree], index: usize, name: &Ident, in_atomic_call: bool) {
        let text = name.to_string();
        if text == "double" || text.strip_prefix("double").is_some_and(|lanes| matches!(lanes, "2" | "3" | "4")) {
            self.doubles.push(name.span());
        }
        if is_keyword(&text) || is_member(tokens, index) || is_scope(tokens, index + 1) {
            return;
        }
        // Behind the name: indices and members.
        let mut next = index + 1;
        let mut indexed = false;
        loop {
            match tokens.get(next) {
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Bracket => {
                    indexed = true;
                    next += 1;
                }
                Some(TokenTree::Punct(punct))
                    if punct.as_char() == '.' && matches!(tokens.get(next + 1), Some(TokenTree::Ident(_))) =>
                {
                    next += 2;
                }
                _ => break,
            }
        }
        let preceded = |character: char| {
            index > 0 && matches!(&tokens[index - 1], TokenTree::Punct(punct) if punct.as_char() == character)
        };
        let binary_before = index >= 2 && !matches!(&tokens[index - 2], TokenTree::Punct(_));
        // `as_type<float>(x)`, `numeric_limits<float>::max()`
        let behind_template = skip_template(tokens, index + 1);
        if behind_template > index + 1 && is_scope(tokens, behind_template) {
            return;
        }
        let kind = if next == index + 1
            && matches!(
                tokens.get(behind_template),
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis
            ) {
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
        self.accesses.push(Access { name: name.clone(), kind });
    }
}

fn begins_with(tokens: &[TokenTree], words: &[&str]) -> bool {
    matches!(tokens.first(), Some(TokenTree::Ident(name)) if words.iter().any(|word| name == word))
}

fn directive_starts(tokens: &[TokenTree], index: usize) -> bool {
    let line = tokens[index].span().start().line;
    index == 0 || tokens[index - 1].span().end().line < line
}

/// Whether brackets behind `before` hold the parameters of a function or lambda.
fn opens_parameters(before: Option<&TokenTree>) -> bool {
    match before {
        Some(TokenTree::Ident(name)) => !is_keyword(&name.to_string()) && !is_type(&name.to_string()),
        Some(TokenTree::Group(group)) => group.delimiter() == Delimiter::Bracket,
        _ => false,
    }
}

/// `metal::vec`: the last segment is the type.
fn skip_path(tokens: &[TokenTree], mut index: usize, last: &mut Option<String>) -> usize {
    while is_scope(tokens, index) {
        match tokens.get(index + 2) {
            Some(TokenTree::Ident(name)) => {
                *last = Some(name.to_string());
                index += 3;
            }
            _ => break,
        }
    }
    index
}

fn skip_template(tokens: &[TokenTree], start: usize) -> usize {
    if !matches!(tokens.get(start), Some(TokenTree::Punct(punct)) if punct.as_char() == '<') {
        return start;
    }
    let mut depth = 0;
    for (offset, token) in tokens[start..].iter().enumerate() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '<' => depth += 1,
            TokenTree::Punct(punct) if punct.as_char() == '>' => {
                depth -= 1;
                if depth == 0 {
                    return start + offset + 1;
                }
            }
            TokenTree::Punct(punct) if !matches!(punct.as_char(), ',' | ':' | '*' | '+' | '/') => return start,
            _ => {}
        }
    }
    start
}

/// `::` at `index`.
fn is_scope(tokens: &[TokenTree], index: usize) -> bool {
    let colon = |index: usize| matches!(tokens.get(index), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(index) && colon(index + 1)
}

/// Whether the name at `index` is behind `.`, `->` or `::`.
fn is_member(tokens: &[TokenTree], index: usize) -> bool {
    let punct = |back: usize| match index.checked_sub(back).map(|index| &tokens[index]) {
        Some(TokenTree::Punct(punct)) => Some(punct.as_char()),
        _ => None,
    };
    punct(1) == Some('.')
        || (punct(1) == Some('>') && punct(2) == Some('-'))
        || (punct(1) == Some(':') && punct(2) == Some(':'))
}

/// `++name` or `--name`.
fn is_doubled(tokens: &[TokenTree], index: usize) -> bool {
    match (index.checked_sub(2).map(|index| &tokens[index]), &tokens[index - 1]) {
        (Some(TokenTree::Punct(first)), TokenTree::Punct(second)) => first.as_char() == second.as_char(),
        _ => false,
    }
}

/// A whole array given to a function or put into a pointer: `f(x, ..)`, `x + offset`.
fn is_handed_on(tokens: &[TokenTree], index: usize, next: usize) -> bool {
    let ends = match tokens.get(next) {
        None => true,
        Some(TokenTree::Punct(punct)) => matches!(punct.as_char(), ',' | '+' | ';'),
        _ => false,
    };
    let begins = match index.checked_sub(1).map(|index| &tokens[index]) {
        None => true,
        Some(TokenTree::Punct(punct)) => matches!(punct.as_char(), ',' | '=' | '+'),
        _ => false,
    };
    ends && begins
}

/// What the operator at `index` does to what stands before it.
fn assignment(tokens: &[TokenTree], index: usize) -> Option<AccessKind> {
    let punct = |offset: usize| match tokens.get(index + offset) {
        Some(TokenTree::Punct(punct)) => Some(punct.as_char()),
        _ => None,
    };
    match (punct(0)?, punct(1), punct(2)) {
        ('=', Some('='), _) => None,
        ('=', _, _) => Some(AccessKind::Store),
        ('+' | '-' | '*' | '/' | '%' | '&' | '|' | '^', Some('='), _) => Some(AccessKind::Accumulate),
        ('<', Some('<'), Some('=')) | ('>', Some('>'), Some('=')) => Some(AccessKind::Accumulate),
        ('+', Some('+'), _) | ('-', Some('-'), _) => Some(AccessKind::Accumulate),
        _ => None,
    }
}

/// Bytes of `name[4][8]` where element and lengths are literal.
fn threadgroup_bytes(element: Option<&str>, behind: &[TokenTree]) -> Option<i64> {
    let mut bytes = size_of(element?)?;
    for token in behind {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                let length: syn::Expr = syn::parse2(group.stream()).ok()?;
                bytes = bytes.checked_mul(crate::parse::expression::read(&length).ok()?.as_constant()?)?;
            }
            _ => break,
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Scan {
        Scan::of(&text.parse().unwrap())
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
        assert_eq!(found.threadgroup[0].1, Some(16 * 17 * 4));
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
                .map(|access| access.name.to_string())
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
    fn reserved_words_are_no_variables() {
        for (text, expected) in [
            ("uint thread = 3;", vec!["thread"]),
            ("const float device = 1.0f;", vec!["device"]),
            ("uint threads = 3;", vec![]),
        ] {
            let names: Vec<String> = scan(text).reserved.iter().map(Ident::to_string).collect();
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
            let kind = found.accesses.iter().find(|access| access.name == "y").map(|access| access.kind);
            assert_eq!(kind, Some(expected), "{text}");
        }
    }

    #[test]
    fn members_scopes_and_attributes_are_no_values() {
        let found = scan("[[unroll]] for (;;) { a.y = metal::y(3); p->y = mem_flags::y; }\n#pragma y y");
        assert!(found.accesses.iter().all(|access| access.name != "y"), "{:?}", found.accesses);
    }
}
