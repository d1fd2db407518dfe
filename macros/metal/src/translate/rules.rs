//! Rules of Metal that clang does not know and tokens show.

use std::collections::BTreeMap;

use super::lexer::{Kind, Places, Token, lex};
use crate::left_out::INSTEAD_OF_A_LAMBDA;
use crate::{Location, Source};

/// A rule that is broken: where, what, what to do.
pub type Breach = (Location, String, &'static str);

/// All rules over one text.
pub fn breaches(source: &Source, is_header: bool) -> Vec<Breach> {
    let all = lex(&source.text);
    let places = Places::new(source, &all);
    let tokens: Vec<Token<'_>> = all.into_iter().filter(|t| !matches!(t.kind, Kind::Space | Kind::Directive)).collect();
    let text = Text { tokens: &tokens, places: &places };
    let mut found = text.lambdas();
    found.extend(text.recursion());
    found.extend(text.pointers());
    found.extend(text.statics(is_header));
    found.sort();
    found
}

struct Text<'a, 't> {
    tokens: &'a [Token<'t>],
    places: &'a Places<'t>,
}

/// A function's definition: name, then the ranges of its parameters and its body, without brackets.
struct Function {
    name: usize,
    parameters: std::ops::Range<usize>,
    body: std::ops::Range<usize>,
}

impl Text<'_, '_> {
    fn is(&self, i: usize, c: char) -> bool {
        self.tokens.get(i).is_some_and(|t| t.is(c))
    }

    fn word(&self, i: usize) -> Option<&str> {
        self.tokens.get(i).filter(|t| t.kind == Kind::Identifier).map(|t| t.text)
    }

    /// The bracket that closes the one at `open`.
    fn close(&self, open: usize) -> Option<usize> {
        let (open_text, close_text) = match self.tokens[open].text {
            "(" => ('(', ')'),
            "[" => ('[', ']'),
            _ => ('{', '}'),
        };
        let mut depth = 0;
        (open..self.tokens.len()).find(|&i| {
            depth += i32::from(self.is(i, open_text)) - i32::from(self.is(i, close_text));
            depth == 0
        })
    }

    /// `[…](…)` and `[…]{…}` where no array can be indexed. Metal has lambdas from version 4 on.
    fn lambdas(&self) -> Vec<Breach> {
        let starts = (0..self.tokens.len()).filter(|&i| {
            let value_before = i > 0
                && (matches!(self.tokens[i - 1].kind, Kind::Number | Kind::Literal)
                    || self.is(i - 1, ')')
                    || self.is(i - 1, ']')
                    || self.word(i - 1).is_some_and(|w| w != "return"));
            let attribute = self.is(i + 1, '[') || (i > 0 && self.is(i - 1, '['));
            self.is(i, '[') && !value_before && !attribute
        });
        let lambda = |i: &usize| self.close(*i).is_some_and(|c| self.is(c + 1, '(') || self.is(c + 1, '{'));
        let breach = |i| {
            let at = self.places.of(&self.tokens[i]);
            (at, "a lambda; Metal has none before version 4".to_owned(), INSTEAD_OF_A_LAMBDA)
        };
        starts.filter(lambda).map(breach).collect()
    }

    fn functions(&self) -> Vec<Function> {
        (1..self.tokens.len())
            .filter(|&i| {
                self.is(i, '(') && self.word(i - 1).is_some_and(|w| !["if", "for", "while", "switch"].contains(&w))
            })
            .filter_map(|open| {
                let close = self.close(open)?;
                let start = if self.word(close + 1) == Some("const") { close + 2 } else { close + 1 };
                let end = self.is(start, '{').then(|| self.close(start)).flatten()?;
                Some(Function { name: open - 1, parameters: open + 1..close, body: start + 1..end })
            })
            .collect()
    }

    /// Functions that call themselves, directly or through others. Which of several of one name is called, tokens do not
    /// show.
    fn recursion(&self) -> Vec<Breach> {
        let mut functions = self.functions();
        let names: Vec<&str> = functions.iter().map(|f| self.tokens[f.name].text).collect();
        let mut single = names.iter().map(|name| names.iter().filter(|other| *other == name).count() == 1);
        functions.retain(|_| single.next() == Some(true));
        let mut calls: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for function in &functions {
            let called = function.body.clone().filter(|&i| self.is(i + 1, '(')).filter_map(|i| self.word(i));
            let called = called.filter(|w| functions.iter().any(|f| self.word(f.name) == Some(w)));
            calls.entry(self.tokens[function.name].text).or_default().extend(called);
        }
        let reaches_itself = |name: &str| {
            let mut reached: Vec<&str> = calls.get(name).into_iter().flatten().copied().collect();
            let mut next = 0;
            while next < reached.len() {
                let more = calls.get(reached[next]).into_iter().flatten().filter(|c| !reached.contains(c)).copied();
                let more: Vec<&str> = more.collect();
                reached.extend(more);
                next += 1;
            }
            reached.contains(&name)
        };
        let mut found: Vec<Breach> = Vec::new();
        for function in functions.iter().filter(|f| reaches_itself(self.tokens[f.name].text)) {
            let name = &self.tokens[function.name];
            found.push((
                self.places.of(name),
                format!("`{}` calls itself; Metal has no recursion", name.text),
                "write a loop",
            ));
        }
        found
    }

    /// `static int n;` inside a function. Constants, functions and members may be static.
    fn statics(&self, is_header: bool) -> Vec<Breach> {
        let bodies: Vec<std::ops::Range<usize>> = match is_header {
            true => self.functions().into_iter().map(|f| f.body).collect(),
            false => std::iter::once(0..self.tokens.len()).collect(),
        };
        let allowed = |i: usize| self.word(i).is_some_and(|w| ["constant", "constexpr"].contains(&w));
        let inside = bodies.into_iter().flatten().filter(|&i| self.word(i) == Some("static") && !allowed(i + 1));
        let breach = |i| {
            let at = self.places.of(&self.tokens[i]);
            (at, "a static variable; Metal has none in functions".to_owned(), "pass it in, or make it a constant")
        };
        inside.map(breach).collect()
    }

    /// `float* p` without an address space, as a variable or a parameter.
    fn pointers(&self) -> Vec<Breach> {
        let statements =
            (0..self.tokens.len()).filter(|&i| i == 0 || [';', '{', '}', ')'].iter().any(|&c| self.is(i - 1, c)));
        let parameters = self.functions().into_iter().flat_map(|f| {
            let mut depth = 0;
            let start = f.parameters.start;
            f.parameters.filter(move |&i| {
                depth += i32::from(self.is(i, '<')) - i32::from(self.is(i, '>'));
                i == start || (depth == 0 && self.is(i - 1, ','))
            })
        });
        let mut starts: Vec<usize> = statements.chain(parameters).collect();
        starts.sort_unstable();
        starts.dedup();
        starts.into_iter().filter_map(|i| self.bare_pointer(i)).collect()
    }

    /// Returns the breach if a declaration `TYPE * NAME` starts here and TYPE has no address space.
    fn bare_pointer(&self, start: usize) -> Option<Breach> {
        const SPACES: [&str; 6] = ["device", "constant", "threadgroup", "thread", "return", "auto"];
        let mut i = start;
        let mut words = 0;
        while let Some(word) = self.word(i) {
            if SPACES.contains(&word) {
                return None;
            }
            words += usize::from(word != "const");
            i += 1;
            if self.is(i, '<') {
                let mut depth = 0;
                while i < self.tokens.len() {
                    depth += i32::from(self.is(i, '<')) - i32::from(self.is(i, '>'));
                    i += 1;
                    if depth == 0 {
                        break;
                    }
                }
            }
            while self.is(i, ':') {
                i += 1;
            }
        }
        let star = words > 0 && (self.is(i, '*') || (self.is(i, '&') && !self.is(i + 1, '&')));
        let name = self.word(i + 1)?;
        // `a * b;` is a declaration of a pointer, and `a * b +` is an expression.
        let declares = ['=', ';', ',', ')'].iter().any(|&c| self.is(i + 2, c)) || i + 2 >= self.tokens.len();
        (star && declares).then(|| {
            let what = format!("`{name}` points or refers to memory of no address space");
            (
                self.places.of(&self.tokens[start]),
                what,
                "write `thread`, `device`, `constant` or `threadgroup` in front of the type",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(u32, String)> {
        breaches(&Source::new("k.metal", text), true).into_iter().map(|(at, what, _)| (at.line, what)).collect()
    }

    #[test]
    fn each_rule_finds_its_breach() {
        for (text, line, word) in [
            ("float a;\nauto f = [&](int i) { return i; };", 2, "lambda"),
            ("float f(float x) { return x > 1 ? f(x - 1) : x; }", 1, "`f` calls itself"),
            (
                "float g(float);\nfloat f(float x) { return g(x); }\nfloat g(float x) { return f(x); }",
                2,
                "`f` calls itself",
            ),
            ("float a[4];\nfloat* p = a;", 2, "`p` points"),
            ("float f(device float* x, float* y) { return 1; }", 1, "`y` points"),
            ("vec<float, 4>& r = v;", 1, "`r` points"),
            ("int f() {\nstatic int n; return n; }", 2, "static variable"),
        ] {
            let found = lines(text);
            assert!(found.iter().any(|(l, what)| *l == line && what.contains(word)), "{text}: {found:?}");
        }
    }

    #[test]
    fn what_is_allowed_is_left_alone() {
        for text in [
            "x[i](1);",
            "[[unroll]] for (;;) {}",
            "float a = b * c;\ny[i] = a * b;",
            "device float* p = x; thread float* q = a; const device T* r = x;",
            "float f(float x) { return g(x); }\nfloat h(float x) { return f(f(x)); }",
            "float f(float x) { return x; }\nfloat f(half x) { return f(float(x)); }",
            "for (int i = 0; i < n * m; ++i) sum += a * b;",
            "if (a) b = c & d;",
            "auto p = x; auto* q = p;",
            "static constant float A[2] = {1, 2}; static float f() { static constexpr int N = 1; return N; }",
        ] {
            assert_eq!(lines(text), [], "{text}");
        }
    }
}
