//! Finds the definitions of functions in a header. CUDA needs a word that says that they run on the device, and
//! overloads that differ only in address space are one function where there is one space.

use std::ops::Range;

use super::lexer::{Kind, Token};
use super::words::ADDRESS_SPACES;

/// A function's definition, as ranges of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    /// All of it, `template <…>` included.
    pub whole: Range<usize>,
    /// The first token after `template <…>`.
    pub head: usize,
    /// The brace of the struct or namespace that it stands in.
    inside: Option<usize>,
}

/// Words between a function's parameters and its body.
const QUALIFIERS: &[&str] = &["const", "thread", "device", "constant", "threadgroup", "noexcept"];

/// Words with parentheses and braces that define nothing.
const CONTROL: &[&str] = &["if", "for", "while", "switch"];

/// Returns whether a function or a macro of this name is declared somewhere in a text.
pub(super) fn declares(tokens: &[Token<'_>], name: &str) -> bool {
    let significant: Vec<&Token<'_>> = tokens.iter().filter(|token| token.kind != Kind::Space).collect();
    let is_type = |token: &Token<'_>| token.kind == Kind::Identifier && !["return", "else", "do"].contains(&token.text);
    let is_function =
        significant.windows(3).any(|three| is_type(three[0]) && three[1].text == name && three[2].is('('));
    let defines = |token: &&Token<'_>| {
        let words =
            token.text.trim_start_matches('#').split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let mut words = words.filter(|word| !word.is_empty());
        token.kind == Kind::Directive && words.next() == Some("define") && words.next() == Some(name)
    };
    is_function || tokens.iter().any(|token| defines(&token))
}

/// All definitions, in order. What stands inside a function's body is none.
pub(super) fn definitions(tokens: &[Token<'_>]) -> Vec<Definition> {
    let significant: Vec<usize> = (0..tokens.len()).filter(|&i| tokens[i].kind != Kind::Space).collect();
    let at = |n: usize| significant.get(n).map(|&i| &tokens[i]);
    let is = |n: usize, c: char| at(n).is_some_and(|t| t.is(c));
    let closing = |open: usize, (from, to): (char, char)| {
        let mut depth = 0;
        (open..significant.len()).find(|&m| {
            depth += i32::from(is(m, from)) - i32::from(is(m, to));
            depth == 0
        })
    };
    let word = |n: usize, words: &[&str]| at(n).is_some_and(|t| words.contains(&t.text));
    let mut found = Vec::new();
    // These braces belong to structs and namespaces, not to functions.
    let mut scopes: Vec<usize> = Vec::new();
    let mut n = 0;
    while n < significant.len() {
        n += 1;
        let open = n - 1;
        if is(open, '{') {
            // This is the body of something that was not recognised as a function, such as one with a list of
            // initialisers.
            let body = open > 0 && (is(open - 1, ')') || word(open - 1, QUALIFIERS));
            match closing(open, ('{', '}')).filter(|_| body) {
                Some(end) => n = end + 1,
                None => scopes.push(open),
            }
            continue;
        }
        if is(open, '}') {
            scopes.pop();
            continue;
        }
        // Operators look like `operator()(`, `operator +(` or `operator vec<T, 2>(`.
        let is_operator = || {
            let before = (0..open).rev().take(12).take_while(|&m| ![';', '{', '}'].iter().any(|&c| is(m, c)));
            before.into_iter().any(|m| word(m, &["operator"])) && !(is(open + 1, ')') && is(open + 2, '('))
        };
        let named = open > 0 && (at(open - 1).is_some_and(|t| t.kind == Kind::Identifier) || is_operator());
        if !is(open, '(') || !named || word(open - 1, CONTROL) {
            continue;
        }
        let Some(close) = closing(open, ('(', ')')) else { continue };
        let mut body = close + 1;
        while word(body, QUALIFIERS) {
            body += 1;
        }
        if is(body, ':') && !is(body + 1, ':') {
            body = after_initialisers(body + 1, &is, &closing);
        }
        if !is(body, '{') {
            continue;
        }
        let Some(end) = closing(body, ('{', '}')) else { continue };
        let scope = |m: usize| is(m, ':') && (is(m + 1, ':') || (m > 0 && is(m - 1, ':')));
        let ends = |m: usize| [';', '{', '}', ':'].iter().any(|&c| is(m, c)) && !scope(m);
        let stop = |m: &usize| ends(*m) || at(*m).is_some_and(|t| t.kind == Kind::Directive);
        let start = (0..open).rev().find(stop).map_or(0, |m| m + 1);
        let mut head = start;
        while at(head).is_some_and(|t| t.text == "template") {
            head = closing(head + 1, ('<', '>')).map_or(open, |m| m + 1);
        }
        let inside = scopes.last().copied();
        found.push(Definition { whole: significant[start]..significant[end] + 1, head: significant[head], inside });
        n = end + 1;
    }
    found
}

/// Returns what follows a constructor's list of initialisers, `a(1), b{2}`, that begins at `start`.
fn after_initialisers(
    start: usize,
    is: &dyn Fn(usize, char) -> bool,
    closing: &dyn Fn(usize, (char, char)) -> Option<usize>,
) -> usize {
    let mut n = start;
    loop {
        // The member's name stands before the bracket.
        let end = if is(n + 1, '(') { closing(n + 1, ('(', ')')) } else { closing(n + 1, ('{', '}')) };
        match end.filter(|_| is(n + 1, '(') || is(n + 1, '{')) {
            Some(end) if is(end + 1, ',') => n = end + 2,
            Some(end) => return end + 1,
            None => return start,
        }
    }
}

/// Definitions that an earlier one equals, except for address spaces.
pub(super) fn repeated(tokens: &[Token<'_>], definitions: &[Definition]) -> Vec<Range<usize>> {
    let spaceless = |d: &Definition| -> Vec<&str> {
        let counts =
            |t: &&Token<'_>| t.kind != Kind::Space && !ADDRESS_SPACES.contains(&t.text) && t.text != "threadgroup";
        tokens[d.whole.clone()].iter().filter(counts).map(|t| t.text).collect()
    };
    let texts: Vec<Vec<&str>> = definitions.iter().map(spaceless).collect();
    let same = |i: usize, j: usize| definitions[i].inside == definitions[j].inside && texts[i] == texts[j];
    let earlier = |&i: &usize| (0..i).any(|j| same(i, j));
    (0..definitions.len()).filter(earlier).map(|i| definitions[i].whole.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::lexer::lex;
    use super::*;

    #[test]
    fn definitions_are_told_from_calls_and_declarations() {
        let text = "constant float a = f(1);\ntemplate <typename T>\ninline T g(T x) { for (;;) { each(x) { } } }\nfloat h(float);\n\
                    struct S { float m() const { return 1; } };\nstruct T { T() : v(2), w{3} {} };\nfloat k() {}";
        let tokens = lex(text);
        let found = definitions(&tokens);
        let heads: Vec<&str> = found.iter().map(|d| tokens[d.head].text).collect();
        assert_eq!(heads, ["inline", "float", "T", "float"]);
        let first: String = tokens[found[0].whole.clone()].iter().map(|t| t.text).collect();
        assert!(first.starts_with("template") && first.ends_with("} } }"), "{first}");
    }

    #[test]
    fn nothing_inside_a_function_repeats() {
        for text in [
            "struct A { float operator()(float x) { if (x > 1) { x = 1; } return x; } };\n\
             struct B { float operator()(float x) { if (x > 1) { x = 1; } return x + 1; } };",
            "float f(float x) thread { for (;;) { x += 1; } for (;;) { x += 1; } return x; }",
            "struct A { float v; A(float x) : v(x) { if (v > 1) { v = 1; } if (v > 1) { v = 1; } } };",
            "struct A { float v; float get() const { return v; } };\nstruct B { float v; float get() const { return v; } };",
            "float f(float x) { while (x) { x /= 2; } while (x) { x /= 2; } return x; }",
        ] {
            let tokens = lex(text);
            assert_eq!(repeated(&tokens, &definitions(&tokens)), [], "{text}");
        }
    }

    #[test]
    fn overloads_by_address_space_alone_repeat() {
        let text = "float f(device float* p) { return p[0]; }\nfloat f(threadgroup float* p) { return p[0]; }\n\
                    float f(thread float* p) { return p[1]; }";
        let tokens = lex(text);
        let found = definitions(&tokens);
        assert_eq!(repeated(&tokens, &found), [found[1].whole.clone()]);
    }
}
