//! Names that Metal itself gives a meaning.

/// The attributes that MLX declares for a kernel whose text mentions them (Metal Shading Language Specification,
/// "Attributes for Kernel Function Input Arguments").
pub const ATTRIBUTES: &[&str] = &[
    "dispatch_quadgroups_per_threadgroup",
    "dispatch_simdgroups_per_threadgroup",
    "dispatch_threads_per_threadgroup",
    "grid_origin",
    "grid_size",
    "quadgroup_index_in_threadgroup",
    "quadgroups_per_threadgroup",
    "simdgroup_index_in_threadgroup",
    "simdgroups_per_threadgroup",
    "thread_execution_width",
    "thread_index_in_quadgroup",
    "thread_index_in_simdgroup",
    "thread_index_in_threadgroup",
    "thread_position_in_grid",
    "thread_position_in_threadgroup",
    "threadgroup_position_in_grid",
    "threadgroups_per_grid",
    "threads_per_grid",
    "threads_per_simdgroup",
    "threads_per_threadgroup",
];

const KEYWORDS: &[&str] = &[
    "alignas",
    "alignof",
    "auto",
    "break",
    "case",
    "const",
    "const_cast",
    "constant",
    "constexpr",
    "continue",
    "decltype",
    "default",
    "define",
    "device",
    "do",
    "else",
    "enum",
    "false",
    "for",
    "goto",
    "if",
    "inline",
    "nullptr",
    "operator",
    "pragma",
    "reinterpret_cast",
    "return",
    "signed",
    "sizeof",
    "static",
    "static_assert",
    "static_cast",
    "struct",
    "switch",
    "template",
    "this",
    "thread",
    "threadgroup",
    "true",
    "typedef",
    "typename",
    "union",
    "unsigned",
    "using",
    "void",
    "volatile",
    "while",
];

const CONSTANTS: &[&str] = &[
    "HALF_EPSILON",
    "HALF_MAX",
    "HALF_MIN",
    "HUGE_VALF",
    "HUGE_VALH",
    "INFINITY",
    "INT_MAX",
    "INT_MIN",
    "MAXFLOAT",
    "MAXHALF",
    "NAN",
    "UINT_MAX",
];

const TEMPLATES: &[&str] =
    &["array", "atomic", "matrix", "packed_vec", "right_tile", "simdgroup_matrix", "tile", "tile_rows", "vec"];

const SCALARS: &[(&str, i64)] = &[
    ("bool", 1),
    ("char", 1),
    ("uchar", 1),
    ("int8_t", 1),
    ("uint8_t", 1),
    ("short", 2),
    ("ushort", 2),
    ("int16_t", 2),
    ("uint16_t", 2),
    ("half", 2),
    ("bfloat", 2),
    ("bfloat16_t", 2),
    ("float16_t", 2),
    ("int", 4),
    ("uint", 4),
    ("int32_t", 4),
    ("uint32_t", 4),
    ("float", 4),
    ("atomic_int", 4),
    ("atomic_uint", 4),
    ("atomic_float", 4),
    ("atomic_bool", 4),
    ("long", 8),
    ("ulong", 8),
    ("int64_t", 8),
    ("uint64_t", 8),
    ("size_t", 8),
    ("ptrdiff_t", 8),
];

/// Words that nothing in a text may be named, beside keywords and types: of the C++ that Metal is made of, and of Metal.
const RESERVED: &[&str] = &[
    "bitand",
    "bitor",
    "catch",
    "char16_t",
    "char32_t",
    "class",
    "compl",
    "concept",
    "delete",
    "dynamic_cast",
    "explicit",
    "export",
    "extern",
    "fragment",
    "friend",
    "goto",
    "kernel",
    "mesh",
    "metal",
    "mutable",
    "namespace",
    "new",
    "noexcept",
    "not",
    "object",
    "private",
    "protected",
    "public",
    "register",
    "requires",
    "sampler",
    "texture",
    "throw",
    "try",
    "typeid",
    "vertex",
    "virtual",
    "visible",
    "xor",
];

/// Whether nothing may be called `name` because Metal, or MLX around the text, gives it a meaning.
pub fn is_reserved(name: &str) -> bool {
    is_keyword(name) || is_type(name) || ATTRIBUTES.contains(&name) || RESERVED.contains(&name)
}

/// Whether threads meet in the function `name`: barriers, and operations of a simdgroup or quadgroup.
pub fn is_collective(name: &str) -> bool {
    name == "threadgroup_barrier"
        || ["simd_", "simdgroup_", "quad_", "tile_"].iter().any(|begin| name.starts_with(begin))
}

/// Whether `name` belongs to the language.
pub fn is_keyword(name: &str) -> bool {
    KEYWORDS.contains(&name)
}

/// Whether `name` is a type, vectors such as `float4` and matrices such as `half3x3` included.
pub fn is_type(name: &str) -> bool {
    size_of(name).is_some()
        || TEMPLATES.contains(&name)
        || name.starts_with("simdgroup_float")
        || name.starts_with("simdgroup_half")
        || name.starts_with("simdgroup_bfloat")
        || is_matrix(name)
        || name == "double"
}

/// Whether `name` is a constant of Metal's headers.
pub fn is_constant(name: &str) -> bool {
    let prefixes = [
        "M_",
        "FLT_",
        "HALF_",
        "BFLT_",
        "INT_",
        "UINT_",
        "LONG_",
        "ULONG_",
        "SHRT_",
        "CHAR_",
        "METAL_",
        "__",
        "mem_",
        "memory_order_",
        "thread_scope_",
    ];
    CONSTANTS.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Bytes of a scalar or vector type; a vector of three takes the room of four.
pub fn size_of(name: &str) -> Option<i64> {
    if let Some((_, size)) = SCALARS.iter().find(|(known, _)| *known == name) {
        return Some(*size);
    }
    let unpacked = name.strip_prefix("packed_");
    let (scalar, lanes) = unpacked.unwrap_or(name).split_at_checked(unpacked.unwrap_or(name).len().checked_sub(1)?)?;
    let (_, size) = SCALARS.iter().find(|(known, _)| *known == scalar)?;
    match (lanes, unpacked.is_some()) {
        ("2", _) => Some(size * 2),
        ("3", true) => Some(size * 3),
        ("3", false) | ("4", _) => Some(size * 4),
        _ => None,
    }
}

fn is_matrix(name: &str) -> bool {
    ["float", "half"].iter().filter_map(|scalar| name.strip_prefix(scalar)).any(|rest| {
        matches!(rest.as_bytes(), [rows @ b'2'..=b'4', b'x', columns @ b'2'..=b'4'] if rows.is_ascii() && columns.is_ascii())
    })
}

/// The attribute that `name` was meant to be, if it is nearly one.
pub fn nearest_attribute(name: &str) -> Option<&'static str> {
    nearest(name, ATTRIBUTES.iter().copied(), 3)
}

/// The candidate nearest to `name`, at most `limit` edits away.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>, limit: usize) -> Option<&'a str> {
    candidates
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, left) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, right) in right.iter().enumerate() {
            let above = row[column + 1];
            let replaced = diagonal + usize::from(left != *right);
            row[column + 1] = replaced.min(above + 1).min(row[column] + 1);
            diagonal = above;
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_know_their_sizes() {
        for (name, size) in [
            ("float", Some(4)),
            ("half4", Some(8)),
            ("float3", Some(16)),
            ("packed_float3", Some(12)),
            ("float5", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(size_of(name), size, "{name}");
        }
        assert!(is_type("float4x4") && is_type("simdgroup_float8x8") && !is_type("float4x5"));
    }

    #[test]
    fn misspelled_attributes_are_recognised() {
        assert_eq!(nearest_attribute("thread_postion_in_grid"), Some("thread_position_in_grid"));
        assert_eq!(nearest_attribute("threads_per_treadgroup"), Some("threads_per_threadgroup"));
        assert_eq!(nearest_attribute("position"), None);
    }
}
