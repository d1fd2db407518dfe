//! The errors of C++ compilers as sentences about the author's line, and not about the emulator's own files.

use crate::{Location, Source};

/// Errors that are shown.
const SHOWN: usize = 5;

/// The message about `c ? a : b` where the arms have no common type.
pub(crate) const MIXED_ARMS: &str = "the two arms of `?:` have different types";

/// What to do about a pointer in the place of a number.
const AN_ELEMENT: &str = "read an element of the array: `x[i]`";

/// Returns what a compiler says, in sentences about the kernel's source where it names a line of it.
pub(crate) fn explain(messages: &str, sources: &[&Source]) -> String {
    sentences(messages, sources).unwrap_or_else(|| errors(messages))
}

/// One sentence for each line of the kernel's source that a compiler refuses, with the line. `None` if it names no such line.
fn sentences(messages: &str, sources: &[&Source]) -> Option<String> {
    let mut found: Vec<(Location, String)> = Vec::new();
    // If the source led to an error in the shim, g++ names the place in the source before the error, and clang after
    // it.
    let mut led: Option<Location> = None;
    let mut open: Option<String> = None;
    for line in messages.lines() {
        let own = place(line, sources);
        if let Some((_, message)) = line.split_once(" error: ") {
            match own.or_else(|| led.take()) {
                Some(at) => found.push((at, sentence(message))),
                None => open = Some(sentence(message)),
            }
            led = None;
        } else if line.contains("required from")
            || line.contains("in instantiation of")
            || line.contains("expanded from")
        {
            match (own, open.take()) {
                (Some(at), Some(message)) => found.push((at, message)),
                (Some(at), None) => led = Some(at),
                (None, message) => open = message,
            }
        }
    }
    let mut text = String::new();
    let mut lines: Vec<&Location> = Vec::new();
    for (at, message) in &found {
        // A line's later messages follow from its first.
        if lines.contains(&at) {
            continue;
        }
        lines.push(at);
        if lines.len() > SHOWN {
            continue;
        }
        text += &format!("{at}: {message}\n");
        if let Some(line) = line_of(at, sources) {
            text += &format!("    {}\n", line.trim());
        }
    }
    if lines.len() > SHOWN {
        text += &format!("and {} more lines\n", lines.len() - SHOWN);
    }
    (!found.is_empty()).then(|| text.trim_end().to_owned())
}

/// The place in the kernel's own text that begins a line of messages.
fn place(line: &str, sources: &[&Source]) -> Option<Location> {
    sources.iter().filter(|source| !source.file.is_empty()).find_map(|source| {
        let rest = &line[line.find(&source.file)? + source.file.len()..];
        let number = rest.strip_prefix(':')?.split(':').next()?.parse().ok()?;
        Some(Location { file: source.file.clone(), line: number })
    })
}

fn line_of<'s>(at: &Location, sources: &[&'s Source]) -> Option<&'s str> {
    let source = sources.iter().find(|source| source.file == at.file)?;
    // A directive in the source moves its lines.
    let moved = source.text.lines().enumerate().filter_map(|(i, line)| {
        let number: u32 = line.trim().strip_prefix("#line ")?.split_whitespace().next()?.parse().ok()?;
        (number <= at.line).then_some((i + 1, number))
    });
    let moved = moved.last();
    let (first, number) = moved.unwrap_or((0, source.line.max(1)));
    source.text.lines().nth(first + at.line.checked_sub(number)? as usize)
}

/// A compiler's message in other words, if it is one of those that authors meet.
fn sentence(message: &str) -> String {
    let plain = message.replace(['‘', '’', '\''], "`").replace("metal::", "");
    let plain = without_aliases(&plain);
    let quoted: Vec<&str> = plain.split('`').skip(1).step_by(2).collect();
    let name = |n: usize| quoted.get(n).copied().unwrap_or_default();
    let has = |words: &[&str]| words.iter().any(|word| plain.contains(word));
    let to_bfloat = quoted.contains(&"bfloat") && quoted.iter().any(|q| ["float", "half"].contains(q));
    if has(&[
        "was not declared in this scope",
        "use of undeclared identifier",
        "does not name a type",
        "unknown type name",
        "has not been declared",
    ]) {
        return format!("`{}` is not known here\n  help: declare it, or correct its name", name(0));
    }
    if to_bfloat
        && has(&[
            "cannot convert",
            "no viable",
            "conversion from",
            "no match for",
            "incompatible type",
            "could not convert",
        ])
    {
        return "a float becomes a `bfloat` without a cast, which Metal refuses\n  help: write `bfloat(..)` or `static_cast<T>(..)`".into();
    }
    if has(&["return-statement with a value", "should not return a value"]) {
        return "a kernel returns nothing\n  help: store the value to an output, and leave with `return;`".into();
    }
    if has(&["for array subscript"]) && has(&["*["]) || has(&["array subscript is not an integer"]) {
        return "an index is a whole number\n  help: cast it: `uint(v)`".into();
    }
    if has(&["invalid type argument of unary", "indirection requires pointer operand"]) {
        return "a number points to nothing\n  help: leave the `*` in front of it out".into();
    }
    if has(&["for array subscript", "subscripted value is not"]) {
        return "a number has no elements\n  help: use it without an index".into();
    }
    if has(&["which is of non-class type", "is not a structure or union"]) {
        return "a number has no components\n  help: use it without one".into();
    }
    if has(&["no matching function for call to"]) {
        let function = name(0).split('(').next().unwrap_or_default();
        return format!(
            "`{function}` takes no such arguments\n  help: compare their number and types with its declaration"
        );
    }
    if has(&["operands to ?:", "operands to `?:`", "conditional expression is ambiguous", "incompatible operand types"])
    {
        return format!("{MIXED_ARMS}\n  help: cast one of them");
    }
    if has(&["is ambiguous", "ambiguous overload"]) && !quoted.is_empty() {
        let function = name(0).split('(').next().unwrap_or_default();
        return format!("`{function}` fits arguments of several types here\n  help: cast the arguments to one type");
    }
    if has(&["no match for `operator"]) {
        let operator = name(0).trim_start_matches("operator");
        return format!(
            "`{operator}` has no meaning between `{}` and `{}`\n  help: cast one of them",
            name(1),
            name(2)
        );
    }
    if has(&["invalid operands"]) {
        return format!(
            "these operands, `{}` and `{}`, do not go together\n  help: {}",
            name(0),
            name(1),
            match has(&["*`"]) {
                true => AN_ELEMENT,
                false if has(&["operator%"]) => "use `fmod(a, b)` for floats",
                false => "cast one of them",
            }
        );
    }
    if has(&["has no member named"]) {
        return format!("`{}` has no member `{}`\n  help: correct its name", name(0), name(1));
    }
    if has(&["no member named"]) {
        return format!("`{}` has no member `{}`\n  help: correct its name", name(1), name(0));
    }
    if has(&["read-only", "const-qualified", "is not assignable", "discards qualifiers"]) {
        return "what is written to here is constant, as inputs are\n  help: write to an output or to a variable of your own".into();
    }
    if has(&["redefinition of", "redeclaration of", "conflicting declaration"]) {
        return format!("`{}` is declared twice\n  help: rename one of them", name(0));
    }
    if has(&["expected"]) {
        let missing = plain.split_once("expected ").map_or(plain.as_str(), |(_, rest)| rest);
        return format!("the syntax is wrong: expected {missing}");
    }
    if has(&["cannot convert", "no viable", "could not convert", "conversion from", "incompatible type"])
        && quoted.len() > 1
    {
        let help = match [name(0), name(1)].map(|ty| ty.ends_with('*')) {
            [true, false] => AN_ELEMENT,
            _ => "cast it, or correct the type",
        };
        return format!("a `{}` is no `{}`\n  help: {help}", name(0), name(1));
    }
    plain
}

/// `T` for `T {aka U}` and `T' (aka 'U'`.
fn without_aliases(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(" {aka ").or_else(|| rest.find(" (aka ")) {
        plain += &rest[..at];
        let close = if rest[at..].starts_with(" {") { '}' } else { ')' };
        rest = rest[at..].find(close).map_or("", |end| &rest[at + end + 1..]);
    }
    plain + rest
}

/// The first errors, without warnings and without the compiler's narration of its way through our own files.
fn errors(messages: &str) -> String {
    let narration = ["In file included from", "                 from", "cc1plus:", "compilation terminated"];
    let mut kept = Vec::new();
    let mut in_warning = false;
    for line in messages.lines().filter(|l| !narration.iter().any(|n| l.starts_with(n))) {
        if line.contains(": warning: ") {
            in_warning = true;
        } else if line.contains(": error: ") || line.contains(": fatal error: ") {
            in_warning = false;
        }
        if !in_warning {
            kept.push(line);
        }
    }
    const SHOWN: usize = 40;
    let mut text = kept[..kept.len().min(SHOWN)].join("\n");
    if kept.len() > SHOWN {
        text += &format!("\n… and {} more lines", kept.len() - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_compilers_lead_to_the_same_sentence() {
        let body = Source::new("k.metal", "uint i = 0;\ny[i] = foo(x[i]);");
        for (messages, expected) in [
            (
                "k.metal:2:8: error: ‘foo’ was not declared in this scope; did you mean ‘fma’?",
                "`foo` is not known here",
            ),
            ("k.metal:2:8: error: use of undeclared identifier 'foo'", "`foo` is not known here"),
            ("k.metal:2:8: error: cannot convert ‘float’ to ‘metal::bfloat’ in assignment", "without a cast"),
            (
                "k.metal:2:8: error: no match for ‘operator=’ (operand types are ‘metal::bfloat’ and ‘float’)",
                "without a cast",
            ),
            (
                "k.metal:2:8: error: no viable conversion from 'float' to 'bfloat' (aka 'metal::bfloat')",
                "without a cast",
            ),
            ("k.metal:2:8: error: expected ‘;’ before ‘}’ token", "expected `;` before `}`"),
            (
                "k.metal:2:8: error: no matching function for call to ‘dot(float&, int)’",
                "`dot` takes no such arguments",
            ),
            (
                "k.metal:2:8: error: invalid operands of types ‘float’ and ‘const float*’ to binary ‘operator*’",
                "read an element of the array",
            ),
            ("k.metal:2:8: error: invalid operands to binary expression ('float2' and 'float3')", "cast one of them"),
            ("k.metal:2:8: error: void function 'k' should not return a value", "a kernel returns nothing"),
            (
                "k.metal:2:8: error: return-statement with a value, in function returning ‘void’",
                "a kernel returns nothing",
            ),
            (
                "k.metal:2:8: error: invalid types ‘const float*[float]’ for array subscript",
                "an index is a whole number",
            ),
            ("k.metal:2:8: error: array subscript is not an integer", "an index is a whole number"),
            ("k.metal:2:8: error: invalid type argument of unary ‘*’ (have ‘float’)", "a number points to nothing"),
            (
                "k.metal:2:8: error: invalid operands of types ‘float’ and ‘float’ to binary ‘operator%’",
                "use `fmod(a, b)` for floats",
            ),
            ("k.metal:2:8: error: invalid types ‘float[int]’ for array subscript", "a number has no elements"),
            ("k.metal:2:8: error: subscripted value is not an array, pointer, or vector", "a number has no elements"),
            (
                "k.metal:2:8: error: request for member ‘x’ in ‘i’, which is of non-class type ‘uint’",
                "a number has no components",
            ),
            (
                "math.h:3:1: error: static assertion failed: rotate: use an unsigned type\nmath.h:9:1: note: in instantiation of function\nk.metal:2:8: note: in instantiation of function template",
                "rotate: use an unsigned type",
            ),
            (
                "k.metal:2:8:   required from here\nmath.h:3:1: error: static assertion failed: rotate: use an unsigned type",
                "rotate: use an unsigned type",
            ),
        ] {
            let text = sentences(messages, &[&body]).unwrap();
            assert!(text.starts_with("k.metal:2: ") && text.contains(expected), "{text}");
            assert!(text.ends_with("    y[i] = foo(x[i]);"), "{text}");
        }
        assert_eq!(sentences("cc1plus: error: out of memory", &[&body]), None);
    }

    #[test]
    fn a_line_is_refused_once() {
        let body = Source { text: "a\n#line 70 \"k.rs\"\nb c;".into(), file: "k.rs".into(), line: 60 };
        let text =
            sentences("k.rs:70:1: error: 'b' does not name a type\nk.rs:70:3: error: expected ';'", &[&body]).unwrap();
        assert_eq!(text, "k.rs:70: `b` is not known here\n  help: declare it, or correct its name\n    b c;");
    }
}
