//! Finds the names that a Rust body uses.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::parse::declaration::collect_identifiers;

/// The names in `block` whose values go anywhere: not those that only reach `_`, a binding that nothing reads, `drop(..)`, a
/// statement that is the name alone, or a block behind `if false`.
///
/// A binding that repeats a name stands for the same one where its value is made of that, and for another where it is not.
pub fn used_names(block: &TokenStream) -> BTreeSet<String> {
    let mut flow = Flow::default();
    flow.statements(block.clone());
    flow.live()
}

/// The names that values go into.
#[derive(Default)]
struct Flow {
    /// The names that are used.
    used: BTreeSet<String>,
    /// The names that go into bindings, by binding.
    bound: BTreeMap<String, BTreeSet<String>>,
    /// The names that mean a variable of the body from here to the end of the block.
    hidden: BTreeSet<String>,
}

/// Methods that say what a tensor is like, not what its values are.
const DESCRIPTIONS: [&str; 5] = ["shape", "dtype", "rank", "size", "len"];

impl Flow {
    fn live(mut self) -> BTreeSet<String> {
        loop {
            let ready = self.bound.keys().find(|binding| self.used.contains(*binding)).cloned();
            let Some(names) = ready.and_then(|binding| self.bound.remove(&binding)) else { return self.used };
            self.used.extend(names);
        }
    }

    /// The statements of a block, with its braces or without.
    fn statements(&mut self, tokens: TokenStream) {
        let hidden = self.hidden.clone();
        self.statements_of_block(tokens);
        self.hidden = hidden;
    }

    fn statements_of_block(&mut self, tokens: TokenStream) {
        let mut statement: Vec<TokenTree> = Vec::new();
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            if matches!(&token, TokenTree::Punct(punct) if punct.as_char() == ';') {
                let statement = std::mem::take(&mut statement);
                self.statement(&statement, true);
                if matches!(statement.first(), Some(TokenTree::Ident(word)) if word == "return") {
                    // The statements behind it never run.
                    return;
                }
                continue;
            }
            let is_block = matches!(&token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
            statement.push(token);
            // `if`, `for` and the like end with their block.
            let goes_on = match tokens.peek() {
                Some(TokenTree::Ident(word)) => word == "else",
                Some(TokenTree::Punct(punct)) => matches!(punct.as_char(), '.' | '?'),
                _ => false,
            };
            if is_block && !goes_on && opens_block(&statement) {
                self.statement(&std::mem::take(&mut statement), true);
            }
        }
        self.statement(&statement, false);
    }

    fn statement(&mut self, tokens: &[TokenTree], ends: bool) {
        let is_name =
            |index: usize, name: &str| matches!(tokens.get(index), Some(TokenTree::Ident(found)) if found == name);
        if is_name(0, "let") {
            let equals =
                tokens.iter().position(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == '='));
            let Some(equals) = equals else { return };
            self.binding(&tokens[1..equals], &tokens[equals + 1..]);
            return;
        }
        if let [TokenTree::Ident(_), rest @ ..] = tokens
            && ends
            && is_chain(rest)
        {
            // In `d_y.square()?;` the result is discarded, but the arguments may be used anywhere.
            self.uses(rest);
            return;
        }
        let discarded = match tokens {
            [TokenTree::Ident(_)] => ends,
            [TokenTree::Punct(reference), TokenTree::Ident(_)] => ends && reference.as_char() == '&',
            // `_ = d_y`
            [TokenTree::Ident(nothing), TokenTree::Punct(equals), ..] if *nothing == "_" => equals.as_char() == '=',
            // `drop(d_y)`, `std::mem::drop(&d_y)`
            [path @ .., TokenTree::Ident(function), TokenTree::Group(group)] => {
                let is_path = |token: &TokenTree| match token {
                    TokenTree::Ident(_) => true,
                    TokenTree::Punct(punct) => punct.as_char() == ':',
                    _ => false,
                };
                *function == "drop" && path.iter().all(is_path) && group.stream().into_iter().count() <= 2
            }
            _ => false,
        };
        if !discarded {
            self.uses(tokens);
        }
    }

    /// `let pattern = value`
    fn binding(&mut self, pattern: &[TokenTree], value: &[TokenTree]) {
        // A type behind the pattern binds nothing.
        let is_colon = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':');
        let pattern = pattern.split(is_colon).next().unwrap_or_default();
        let mut names = Vec::new();
        collect_identifiers(pattern.iter().cloned().collect(), &mut names);
        let mut read = Flow { hidden: self.hidden.clone(), ..Flow::default() };
        read.uses(value);
        // Names that a block inside the value binds are not visible outside it.
        for (binding, names) in read.bound {
            self.bound.entry(binding).or_default().extend(names);
        }
        for name in names.iter().map(ToString::to_string) {
            if !read.used.contains(&name) {
                self.hidden.insert(name.clone());
            }
            self.bound.entry(self.name(&name)).or_default().extend(read.used.iter().cloned());
        }
    }

    /// Returns what a name stands for here.
    fn name(&self, written: &str) -> String {
        if self.hidden.contains(written) { format!("{written}'") } else { written.to_owned() }
    }

    fn uses(&mut self, tokens: &[TokenTree]) {
        let mut index = 0;
        while let Some(token) = tokens.get(index) {
            let is_if = matches!(token, TokenTree::Ident(word) if word == "if");
            let is_false = matches!(tokens.get(index + 1), Some(TokenTree::Ident(word)) if word == "false");
            if is_if && is_false && matches!(tokens.get(index + 2), Some(TokenTree::Group(_))) {
                index += 3;
                continue;
            }
            match token {
                TokenTree::Ident(_) if describes(&tokens[index + 1..]) => {}
                TokenTree::Ident(name) => drop(self.used.insert(self.name(&name.to_string()))),
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => self.statements(group.stream()),
                TokenTree::Group(group) => self.uses(&group.stream().into_iter().collect::<Vec<_>>()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            index += 1;
        }
    }
}

/// Returns whether what follows a name asks what it is like: `.shape()`.
fn describes(behind: &[TokenTree]) -> bool {
    let [TokenTree::Punct(dot), TokenTree::Ident(method), TokenTree::Group(arguments), ..] = behind else {
        return false;
    };
    dot.as_char() == '.' && DESCRIPTIONS.iter().any(|known| method == known) && arguments.stream().is_empty()
}

/// Returns whether what follows a name is a chain of methods: `.square()?.sum(&[0])?`.
fn is_chain(behind: &[TokenTree]) -> bool {
    let is_link = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => matches!(punct.as_char(), '.' | '?'),
        TokenTree::Group(group) => group.delimiter() == Delimiter::Parenthesis,
        TokenTree::Ident(_) => true,
        TokenTree::Literal(_) => false,
    };
    matches!(behind.first(), Some(TokenTree::Punct(punct)) if punct.as_char() == '.') && behind.iter().all(is_link)
}

/// Returns whether a statement is a block, with or without a head.
fn opens_block(statement: &[TokenTree]) -> bool {
    match statement.first() {
        Some(TokenTree::Ident(word)) => {
            ["if", "for", "while", "loop", "match", "unsafe"].iter().any(|known| word == known)
        }
        Some(TokenTree::Group(_)) => statement.len() == 1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::used_names;

    #[test]
    fn values_that_go_nowhere_are_not_used() {
        for (body, expected) in [
            ("{ Ok(Outputs { d_x: Some(d_y.square()?) }) }", true),
            ("{ let _ = d_y; Ok(Outputs { d_x }) }", false),
            ("{ let _ = &d_y; Ok(Outputs { d_x }) }", false),
            ("{ let _unused = d_y.square()?; Ok(x) }", false),
            ("{ let a = d_y.square()?; let b = a.clone(); Ok(x) }", false),
            ("{ let a = d_y.square()?; let b = a.clone(); Ok(b) }", true),
            ("{ let d_y = d_y.square()?; Ok(d_y) }", true),
            ("{ let (a, b) = split(d_y)?; Ok(b) }", true),
            ("{ d_y; Ok(x) }", false),
            ("{ drop(d_y); Ok(x) }", false),
            ("{ ::core::mem::drop(&d_y); Ok(x) }", false),
            ("{ _ = d_y; Ok(x) }", false),
            ("{ _ = d_y.square()?; Ok(x) }", false),
            ("{ let _g: Tensor<Infer> = d_y.square()?; Tensor::zeros(x) }", false),
            ("{ if false { return Ok(d_y); } Ok(x) }", false),
            ("{ if wants { f(x); } let _ = d_y; Ok(x) }", false),
            ("{ if wants { f(d_y); } else { f(x); } Ok(x) }", true),
            ("{ let x = if wants { let g = d_y.square()?; Some(g) } else { None }; Ok(x) }", true),
            ("{ let mut sum = x; sum = sum.add(d_y)?; Ok(sum) }", true),
            ("{ println!(\"{d_y:?}\"); Ok(x) }", false),
            ("{ let d_y = x; Ok(d_y) }", false),
            ("{ { let d_y = x; f(d_y); } Ok(d_y) }", true),
            ("{ d_y.square()?; Ok(x) }", false),
            ("{ parts.push(d_y); Ok(x) }", true),
            ("{ return Ok(x); Ok(d_y) }", false),
            ("{ if wants { return Ok(x); } Ok(d_y) }", true),
            ("{ let s = d_y.shape(); x.reshape(s) }", false),
            ("{ let s = d_y.square()?.shape(); x.reshape(s) }", true),
        ] {
            assert_eq!(used_names(&body.parse().unwrap()).contains("d_y"), expected, "{body}");
        }
    }
}
