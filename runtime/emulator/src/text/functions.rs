//! Where functions are defined; CUDA wants to be told that they run on the device.

use super::lexer::{Kind, Token};

/// Where each function's definition in a header begins, after `template <…>`.
pub(super) fn function_starts(tokens: &[Token<'_>]) -> Vec<usize> {
    let significant: Vec<usize> = (0..tokens.len()).filter(|&i| tokens[i].kind != Kind::Space).collect();
    let at = |n: usize| significant.get(n).map(|&i| &tokens[i]);
    let is = |n: usize, c: char| at(n).is_some_and(|t| t.is(c));
    let mut starts = Vec::new();
    for n in 1..significant.len() {
        let named = at(n - 1)
            .is_some_and(|t| t.kind == Kind::Identifier && !["if", "for", "while", "switch"].contains(&t.text));
        if !is(n, '(') || !named {
            continue;
        }
        let mut depth = 0;
        let close = (n..significant.len()).find(|&m| {
            depth += i32::from(is(m, '(')) - i32::from(is(m, ')'));
            depth == 0
        });
        let Some(close) = close else { continue };
        let body = if at(close + 1).is_some_and(|t| t.text == "const") { close + 2 } else { close + 1 };
        if !is(body, '{') {
            continue;
        }
        let ends = |m: usize| {
            [';', '{', '}', ':'].iter().any(|&c| is(m, c))
                && !(is(m, ':') && (is(m + 1, ':') || (m > 0 && is(m - 1, ':'))))
        };
        let stop = |m: &usize| ends(*m) || at(*m).is_some_and(|t| t.kind == Kind::Directive);
        let mut start = (0..n).rev().find(stop).map_or(0, |m| m + 1);
        while at(start).is_some_and(|t| t.text == "template") {
            let mut depth = 0;
            let past = (start + 1..n).find(|&m| {
                depth += i32::from(is(m, '<')) - i32::from(is(m, '>'));
                depth == 0
            });
            start = past.map_or(n, |m| m + 1);
        }
        if at(start).is_none_or(|t| t.text != "METAL_FUNC") {
            starts.extend(significant.get(start).copied());
        }
    }
    starts.sort_unstable();
    starts.dedup();
    starts
}
