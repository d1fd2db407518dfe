//! The little of LLVM's text form that the lowering reads: brackets, types, parameters.

/// The byte behind the bracket that closes the one at `open`. Brackets in strings do not count.
pub(super) fn closing(text: &str, open: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut quoted = false;
    for (i, byte) in text.bytes().enumerate().skip(open) {
        match byte {
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'(' | b'[' | b'{' | b'<' => depth += 1,
            b')' | b']' | b'}' | b'>' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// The parts between commas that stand outside of all brackets and strings, without spaces around them.
pub(super) fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut quoted, mut start) = (0i32, false, 0);
    let mut found = Vec::new();
    for (i, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'(' | b'[' | b'{' | b'<' => depth += 1,
            b')' | b']' | b'}' | b'>' => depth -= 1,
            b',' if depth == 0 => {
                found.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    found.push(text[start..].trim());
    found.retain(|part| !part.is_empty());
    found
}

/// The type that `text` begins with: `ptr`, `i32`, `<3 x i32>`, `[4 x float]`, `%struct.S`.
pub(super) fn leading_type(text: &str) -> &str {
    let text = text.trim_start();
    if text.starts_with(['<', '[', '{']) {
        return closing(text, 0).map_or(text, |end| &text[..end]);
    }
    let end = text.find(|c: char| c.is_whitespace() || c == ',' || c == ')').unwrap_or(text.len());
    &text[..end]
}

/// The text without ` addrspace(N)`.
pub(super) fn without_spaces(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("addrspace(") {
        out += rest[..at].trim_end_matches(' ');
        let close = rest[at..].find(')').map_or(rest.len(), |n| at + n + 1);
        rest = &rest[close..];
    }
    out + rest
}

/// The first `@NAME` from `from` on that `wanted` accepts: where it stands, and the name without `@`.
pub(super) fn global(text: &str, from: usize, wanted: impl Fn(&str) -> bool) -> Option<(usize, &str)> {
    let mut from = from;
    while let Some(at) = text[from..].find('@').map(|n| from + n) {
        let rest = &text[at + 1..];
        let ends = |c: char| !(c.is_ascii_alphanumeric() || "._$-".contains(c));
        let name = &rest[..rest.find(ends).unwrap_or(rest.len())];
        if wanted(name) {
            return Some((at, name));
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_split_outside_of_brackets() {
        assert_eq!(
            parts("ptr addrspace(1) %0, <3 x i32> %1, \"a,b\" %2"),
            ["ptr addrspace(1) %0", "<3 x i32> %1", "\"a,b\" %2"]
        );
        assert!(parts("").is_empty());
    }

    #[test]
    fn types_are_read_whole() {
        for (text, ty) in
            [("<3 x i32> noundef %1", "<3 x i32>"), ("ptr", "ptr"), ("[2 x [4 x i8]] undef", "[2 x [4 x i8]]")]
        {
            assert_eq!(leading_type(text), ty);
        }
    }

    #[test]
    fn address_spaces_go() {
        assert_eq!(without_spaces("load i32, ptr addrspace(2) %4, align 4"), "load i32, ptr %4, align 4");
        assert_eq!(without_spaces("@a = internal addrspace(3) global i32 0"), "@a = internal global i32 0");
    }
}
