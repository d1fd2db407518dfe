//! Where functions are defined in a header: CUDA wants to be told that they run on the device, and overloads that differ
//! in address space alone are one function where there is one space.

use std::ops::Range;

use super::lexer::{Kind, Token};
use super::words::ADDRESS_SPACES;

/// A function's definition, as ranges of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    /// All of it, `template <…>` included.
    pub whole: Range<usize>,
    /// Its first token after `template <…>`.
    pub head: usize,
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
    let mut found = Vec::new();
    let mut n = 1;
    while n < significant.len() {
        n += 1;
        let open = n - 1;
        let named = at(open - 1).is_some_and(|t| t.kind == Kind::Identifier);
        if !is(open, '(') || !named {
            continue;
        }
        let Some(close) = closing(open, ('(', ')')) else { continue };
        let body = if at(close + 1).is_some_and(|t| t.text == "const") { close + 2 } else { close + 1 };
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
        found.push(Definition { whole: significant[start]..significant[end] + 1, head: significant[head] });
        n = end + 1;
    }
    found
}

/// Definitions that an earlier one equals, but for address spaces.
pub(super) fn repeated(tokens: &[Token<'_>], definitions: &[Definition]) -> Vec<Range<usize>> {
    let spaceless = |d: &Definition| -> Vec<&str> {
        let counts =
            |t: &&Token<'_>| t.kind != Kind::Space && !ADDRESS_SPACES.contains(&t.text) && t.text != "threadgroup";
        tokens[d.whole.clone()].iter().filter(counts).map(|t| t.text).collect()
    };
    let texts: Vec<Vec<&str>> = definitions.iter().map(spaceless).collect();
    let earlier = |i: &usize| texts[..*i].contains(&texts[*i]);
    (0..definitions.len()).filter(earlier).map(|i| definitions[i].whole.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::lexer::lex;
    use super::*;

    #[test]
    fn definitions_are_told_from_calls_and_declarations() {
        let text = "constant float a = f(1);\ntemplate <typename T>\ninline T g(T x) { for (;;) { each(x) { } } }\nfloat h(float);\n\
                    struct S { float m() const { return 1; } };\nfloat k() {}";
        let tokens = lex(text);
        let found = definitions(&tokens);
        let heads: Vec<&str> = found.iter().map(|d| tokens[d.head].text).collect();
        assert_eq!(heads, ["inline", "float", "float"]);
        let first: String = tokens[found[0].whole.clone()].iter().map(|t| t.text).collect();
        assert!(first.starts_with("template") && first.ends_with("} } }"), "{first}");
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
