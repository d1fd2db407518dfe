//! Words and numbers of Metal that the rewrites treat specially.

use crate::left_out::{LEFT_OUT, NOT_MODELLED};

/// Words that are refused, each with advice.
pub(super) fn refused() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    // `static` is left out only of variables, and `register` means nothing.
    LEFT_OUT.iter().filter(|(word, _)| !["static", "register"].contains(word)).chain(NOT_MODELLED)
}

/// Words that only Metal has, except for `threadgroup`, which also makes objects.
pub(super) const ADDRESS_SPACES: [&str; 4] = ["device", "constant", "thread", "kernel"];

/// Metal's floating literals are single precision unless they say `h` or `bf`; C++'s are double unless they say `f`.
/// With `double`, those of single precision have none.
pub(super) fn number(text: &str, double: bool) -> String {
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("0x") && !lower.contains('p') {
        return text.to_owned();
    }
    let floating = lower.contains(['.', 'e', 'p']);
    for (suffix, name) in [("bf", "bfloat"), ("h", "half")] {
        if let Some(digits) = lower.strip_suffix(suffix) {
            let point = if floating { "" } else { ".0" };
            return format!("metal::{name}({digits}{point}f)");
        }
    }
    match (double, lower.ends_with(['f', 'l'])) {
        (false, false) if floating => format!("{text}f"),
        // `1f` has no point, and `1` would be an integer.
        (true, true) if lower.ends_with('f') => {
            let digits = &text[..text.len() - 1];
            if floating { digits.to_owned() } else { format!("{digits}.0") }
        }
        _ => text.to_owned(),
    }
}

/// A literal of a value next to the one given: clang warns of a `float` that becomes a `bfloat` unless it is a constant that a
/// `bfloat` holds, and the static check only looks at types.
pub(super) fn inexact(literal: &str) -> String {
    match literal.strip_suffix('f').and_then(|digits| digits.parse::<f32>().ok()).filter(|value| value.is_finite()) {
        Some(value) => format!("{:e}f", value.next_up()),
        None => literal.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rewrite::{Context, Target, rewrite};
    use super::*;
    use crate::Source;

    #[test]
    fn each_word_that_is_not_modelled_is_refused_by_its_name() {
        for (word, help) in refused().chain([&("float4x4", "use vectors, `simdgroup_matrix` or `tile`")]) {
            let text = format!("y[0] = x[0];\n{word}{} a(x[0]);", if *word == "std" { "::sort" } else { "" });
            for target in [Target::Host { arms: false, double: false }, Target::Check { exact: false }, Target::Cuda] {
                let source = Source::new("k.metal", text.as_str());
                let error = rewrite(&source, target, Context::default(), &mut Vec::new()).expect_err(word).to_string();
                assert!(error.starts_with(&format!("k.metal:2: `{word}` ")), "{error}");
                assert!(error.contains(&format!("help: {help}")), "{error}");
            }
        }
    }
}
