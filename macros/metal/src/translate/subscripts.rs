//! Finds what is indexed and what is pointed to, by the form of the source.

use super::lexer::{Kind, Places, Token, lex};
use crate::{Location, Source};

/// Returns whether the text casts pointers: `(device float4*)p`, `reinterpret_cast<float4*>(p)`. Definitions of macros count.
pub fn casts_pointers(source: &Source) -> bool {
    casts(&source.text)
}

fn casts(text: &str) -> bool {
    let (directives, tokens): (Vec<_>, Vec<_>) =
        significant(text).into_iter().partition(|token| token.kind == Kind::Directive);
    let defined = directives.iter().filter_map(|directive| directive.text.trim_start().strip_prefix('#'));
    defined.into_iter().any(casts)
        || tokens
            .windows(3)
            .any(|t| t[0].is('*') && ((t[1].is(')') && !t[2].is('{')) || (t[1].is('>') && t[2].is('('))))
}

/// Returns where a port is first used; a member that is called so, as in `position.x`, is none.
pub fn first_use(source: &Source, name: &str) -> Option<Location> {
    let all = lex(&source.text);
    let places = Places::new(source, &all);
    let tokens: Vec<Token<'_>> = all.iter().copied().filter(|t| t.kind != Kind::Space).collect();
    let found = (0..tokens.len()).find(|&n| tokens[n].text == name && (n == 0 || !tokens[n - 1].is('.')))?;
    Some(places.of(&tokens[found]))
}

/// Returns the array that is declared in the text and indexed on a line of a file, or all of them if there are several. Arrays in
/// threadgroup memory are named only if there is no other, because their accesses are also checked elsewhere.
pub fn private_array(source: &Source, file: &str, line: u32) -> Option<String> {
    let all = lex(&source.text);
    let places = Places::new(source, &all);
    let tokens: Vec<Token<'_>> = all.iter().copied().filter(|t| t.kind != Kind::Space).collect();
    let mut declared: Vec<&str> = Vec::new();
    let mut shared: Vec<&str> = Vec::new();
    let mut indexed: Vec<&str> = Vec::new();
    for n in 1..tokens.len().saturating_sub(1) {
        let (before, name) = (&tokens[n - 1], tokens[n].text);
        if tokens[n].kind != Kind::Identifier || !tokens[n + 1].is('[') {
            continue;
        }
        let of_type = before.kind == Kind::Identifier && !["return", "else"].contains(&before.text);
        if of_type || before.is('>') || before.is(',') {
            let start = tokens[..n].iter().rposition(|t| [';', '{', '}'].iter().any(|&c| t.is(c))).map_or(0, |s| s + 1);
            let is_shared = tokens[start..n].iter().any(|t| t.text == "threadgroup");
            let known = if is_shared { &mut shared } else { &mut declared };
            if !known.contains(&name) {
                known.push(name);
            }
        }
        let at = places.of(&tokens[n]);
        if at.line == line && (at.file == file || file.ends_with(&at.file)) && !indexed.contains(&name) {
            indexed.push(name);
        }
    }
    let known = if indexed.iter().any(|name| declared.contains(name)) { declared } else { shared };
    indexed.retain(|name| known.contains(name));
    (!indexed.is_empty()).then(|| indexed.join("` or `"))
}

fn significant(text: &str) -> Vec<Token<'_>> {
    lex(text).into_iter().filter(|t| t.kind != Kind::Space).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_of_pointers_are_seen() {
        let casts = |text: &str| casts_pointers(&Source::new("k.metal", text));
        for text in [
            "(device float4*)p",
            "reinterpret_cast<const device uint*>(p)",
            "*(thread uint*)&f",
            "#define AT(p) ((device float4*)p)[0]",
        ] {
            assert!(casts(text), "{text}");
        }
        for text in [
            "a * (b)",
            "device float* p = x;",
            "float f(device float* x) { return x[0]; }",
            "vec<float, 4> v",
            "#define AT(a, b) (a * (b))",
        ] {
            assert!(!casts(text), "{text}");
        }
    }

    #[test]
    fn the_array_of_a_line_is_named() {
        let source = Source::new(
            "k.metal",
            "float a[4], b[2];\nthreadgroup float s[4];\ny[i] = a[j];\ns[0] = a[1] + b[2];\ny[i] = s[j];",
        );
        let named = |line| private_array(&source, "k.metal", line);
        assert_eq!(named(3).as_deref(), Some("a"));
        assert_eq!(named(4).as_deref(), Some("a` or `b"));
        assert_eq!(named(5).as_deref(), Some("s"));
        assert_eq!(named(9), None);
    }
}
