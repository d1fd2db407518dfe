//! Names that Metal itself gives a meaning.

use crate::lanes::has_lanes;
pub use crate::nearest::nearest;

/// The attributes that MLX declares for a kernel whose text mentions them, with their types (Metal Shading Language Specification,
/// "Attributes for Kernel Function Input Arguments").
pub const ATTRIBUTES: [(&str, &str); 20] = [
    ("dispatch_quadgroups_per_threadgroup", "uint"),
    ("dispatch_simdgroups_per_threadgroup", "uint"),
    ("dispatch_threads_per_threadgroup", "uint3"),
    ("grid_origin", "uint3"),
    ("grid_size", "uint3"),
    ("quadgroup_index_in_threadgroup", "uint"),
    ("quadgroups_per_threadgroup", "uint"),
    ("simdgroup_index_in_threadgroup", "uint"),
    ("simdgroups_per_threadgroup", "uint"),
    ("thread_execution_width", "uint"),
    ("thread_index_in_quadgroup", "uint"),
    ("thread_index_in_simdgroup", "uint"),
    ("thread_index_in_threadgroup", "uint"),
    ("thread_position_in_grid", "uint3"),
    ("thread_position_in_threadgroup", "uint3"),
    ("threadgroup_position_in_grid", "uint3"),
    ("threadgroups_per_grid", "uint3"),
    ("threads_per_grid", "uint3"),
    ("threads_per_simdgroup", "uint"),
    ("threads_per_threadgroup", "uint3"),
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

/// Macros of Metal's headers: nothing else can have their names, not even a variable.
const CONSTANTS: &[&str] = &[
    "BFLT_EPSILON",
    "BFLT_MAX",
    "BFLT_MIN",
    "CHAR_BIT",
    "CHAR_MAX",
    "CHAR_MIN",
    "FLT_DIG",
    "FLT_EPSILON",
    "FLT_MANT_DIG",
    "FLT_MAX",
    "FLT_MIN",
    "FLT_RADIX",
    "FP_ILOGB0",
    "FP_ILOGBNAN",
    "HALF_DIG",
    "HALF_EPSILON",
    "HALF_MANT_DIG",
    "HALF_MAX",
    "HALF_MIN",
    "HUGE_VALF",
    "HUGE_VALH",
    "INFINITY",
    "INT_MAX",
    "INT_MIN",
    "LONG_MAX",
    "LONG_MIN",
    "MAXFLOAT",
    "MAXHALF",
    "NAN",
    "SCHAR_MAX",
    "SCHAR_MIN",
    "SHRT_MAX",
    "SHRT_MIN",
    "UCHAR_MAX",
    "UINT_MAX",
    "ULONG_MAX",
    "USHRT_MAX",
    "assert",
];

/// Functions of Metal that make a value of values and do nothing else, beside those of simdgroups and quadgroups.
const FUNCTIONS: &[&str] = &[
    "abs",
    "absdiff",
    "acos",
    "acosh",
    "addsat",
    "all",
    "any",
    "as_type",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bfloat",
    "ceil",
    "clamp",
    "clz",
    "copysign",
    "cos",
    "cosh",
    "cospi",
    "cross",
    "ctz",
    "degrees",
    "determinant",
    "distance",
    "distance_squared",
    "divide",
    "dot",
    "erf",
    "erfinv",
    "exp",
    "exp10",
    "exp2",
    "expm1",
    "extract_bits",
    "fabs",
    "fast",
    "fdim",
    "floor",
    "fma",
    "fmax",
    "fmax3",
    "fmedian3",
    "fmin",
    "fmin3",
    "fmod",
    "hadd",
    "half",
    "insert_bits",
    "isfinite",
    "isinf",
    "isnan",
    "isnormal",
    "isordered",
    "isunordered",
    "ldexp",
    "length",
    "length_squared",
    "log",
    "log10",
    "log1p",
    "log2",
    "mad24",
    "madhi",
    "madsat",
    "max",
    "max3",
    "median3",
    "min",
    "min3",
    "mix",
    "mul24",
    "mulhi",
    "normalize",
    "popcount",
    "pow",
    "powr",
    "precise",
    "radians",
    "reflect",
    "refract",
    "reverse_bits",
    "rhadd",
    "rint",
    "rotate",
    "round",
    "rsqrt",
    "saturate",
    "select",
    "sign",
    "signbit",
    "sin",
    "sinh",
    "sinpi",
    "smoothstep",
    "sqrt",
    "step",
    "subsat",
    "tan",
    "tanh",
    "tanpi",
    "transpose",
    "trunc",
];

/// Operations of a simdgroup or quadgroup, without the prefix that says of which.
const GROUP_OPERATIONS: &[&str] = &[
    "sum",
    "product",
    "min",
    "max",
    "and",
    "or",
    "xor",
    "broadcast",
    "broadcast_first",
    "prefix_inclusive_sum",
    "prefix_exclusive_sum",
    "prefix_inclusive_product",
    "prefix_exclusive_product",
    "shuffle",
    "shuffle_xor",
    "shuffle_up",
    "shuffle_down",
    "shuffle_rotate_up",
    "shuffle_rotate_down",
    "shuffle_and_fill_up",
    "shuffle_and_fill_down",
    "ballot",
    "any",
    "all",
    "active_threads_mask",
    "is_first",
];

/// Other functions in which threads or lanes meet.
const OTHER_COLLECTIVES: &[&str] = &[
    "threadgroup_barrier",
    "simdgroup_barrier",
    "simdgroup_load",
    "simdgroup_store",
    "simdgroup_multiply",
    "simdgroup_multiply_accumulate",
    "tile_load",
    "tile_load_transposed",
    "tile_load_right",
    "tile_load_right_transposed",
    "tile_as_right",
    "tile_as_right_transposed",
    "tile_store",
    "tile_multiply_accumulate",
    "tile_multiply_accumulate_sixteen_bits",
    "tile_transpose",
    "tile_row_sum",
    "tile_row_max",
];

const TEMPLATES: &[&str] =
    &["array", "atomic", "matrix", "packed_vec", "right_tile", "simdgroup_matrix", "tile", "tile_rows", "vec"];

pub(crate) const SCALARS: &[(&str, i64)] = &[
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
    "and",
    "and_eq",
    "asm",
    "bitand",
    "bitor",
    "catch",
    "char16_t",
    "char32_t",
    "class",
    "co_await",
    "co_return",
    "co_yield",
    "consteval",
    "constinit",
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
    "not_eq",
    "object",
    "or",
    "or_eq",
    "private",
    "protected",
    "public",
    "register",
    "requires",
    "sampler",
    "static_assert",
    "texture",
    "thread_local",
    "throw",
    "try",
    "typeid",
    "vertex",
    "virtual",
    "visible",
    "wchar_t",
    "xor",
    "xor_eq",
];

/// Returns whether nothing may be called `name` because Metal, or MLX around the text, gives it a meaning.
pub fn is_reserved(name: &str) -> bool {
    is_keyword(name) || is_type(name) || is_attribute(name) || RESERVED.contains(&name) || is_macro(name)
}

/// Returns whether `name` is a macro of Metal's headers.
fn is_macro(name: &str) -> bool {
    let is_number = name.starts_with("M_") && (name.ends_with("_F") || name.ends_with("_H"));
    CONSTANTS.contains(&name) || is_number || name.starts_with("__") || name.starts_with("METAL_")
}

/// Returns whether the function `name` makes a value of values and does nothing else.
pub fn is_function(name: &str) -> bool {
    FUNCTIONS.contains(&name) || name.starts_with("simd_") || name.starts_with("quad_")
}

/// Returns whether `name` is an attribute.
pub fn is_attribute(name: &str) -> bool {
    ATTRIBUTES.iter().any(|(known, _)| *known == name)
}

/// Returns whether the attribute has the component, or several of them, that is written `member`.
pub fn has_component(attribute: &str, member: &str) -> bool {
    ATTRIBUTES.contains(&(attribute, "uint3")) && has_lanes(3, member)
}

/// Returns whether lanes or threads must reach a call of this function together.
pub fn is_collective(name: &str) -> bool {
    let operation = name.strip_prefix("simd_").or_else(|| name.strip_prefix("quad_"));
    operation.is_some_and(|o| GROUP_OPERATIONS.contains(&o)) || OTHER_COLLECTIVES.contains(&name)
}

/// Returns whether `name` begins as an operation of a simdgroup or quadgroup, and is none.
pub fn is_unknown_collective(name: &str) -> bool {
    let operation = name.strip_prefix("simd_").or_else(|| name.strip_prefix("quad_"));
    operation.is_some_and(|operation| !GROUP_OPERATIONS.contains(&operation) && operation != "vote")
}

/// The operations of a simdgroup.
pub fn simdgroup_operations() -> Vec<String> {
    GROUP_OPERATIONS.iter().map(|operation| format!("simd_{operation}")).collect()
}

/// Returns whether `name` belongs to the language.
pub fn is_keyword(name: &str) -> bool {
    KEYWORDS.contains(&name)
}

/// Returns whether `name` is a type, vectors such as `float4` and matrices such as `half3x3` included.
pub fn is_type(name: &str) -> bool {
    size_of(name).is_some()
        || TEMPLATES.contains(&name)
        || name.starts_with("simdgroup_float")
        || name.starts_with("simdgroup_half")
        || name.starts_with("simdgroup_bfloat")
        || is_matrix(name)
        || name == "double"
}

/// Returns whether `name` is a constant of Metal's headers.
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
    is_macro(name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
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

/// Returns whether `name` is a vector type: `float2` … `ulong4`, without those that are packed.
pub fn is_vector(name: &str) -> bool {
    let scalar = name.strip_suffix(['2', '3', '4']).unwrap_or_default();
    SCALARS.iter().any(|(known, _)| *known == scalar)
}

/// Returns whether `name` is a matrix type: `float2x2` … `half4x4`.
pub fn is_matrix(name: &str) -> bool {
    ["float", "half"].iter().filter_map(|scalar| name.strip_prefix(scalar)).any(|rest| {
        matches!(rest.as_bytes(), [rows @ b'2'..=b'4', b'x', columns @ b'2'..=b'4'] if rows.is_ascii() && columns.is_ascii())
    })
}

/// The attribute that `name` was meant to be, if it is nearly one.
pub fn nearest_attribute(name: &str) -> Option<&'static str> {
    nearest(name, ATTRIBUTES.iter().map(|(known, _)| *known), 3)
}

#[cfg(test)]
mod tests;
