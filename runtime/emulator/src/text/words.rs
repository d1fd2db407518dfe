//! Words of Metal that mean something to the rewrites.

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

/// Whether lanes or threads must reach a call of this function together.
pub(super) fn is_collective(name: &str) -> bool {
    let operation = name.strip_prefix("simd_").or_else(|| name.strip_prefix("quad_"));
    operation.is_some_and(|o| GROUP_OPERATIONS.contains(&o)) || OTHER_COLLECTIVES.contains(&name)
}

/// Words of Metal that the emulator does not model, and words that Metal does not have, each with advice.
pub(super) const REFUSED: &[(&str, &str)] = &[
    ("double", "use `float`: Metal has no 64-bit floating point"),
    ("texture1d", TEXTURE),
    ("texture2d", TEXTURE),
    ("texture3d", TEXTURE),
    ("texturecube", TEXTURE),
    ("texture_buffer", TEXTURE),
    ("sampler", TEXTURE),
    ("imageblock", TEXTURE),
    ("simdgroup_event", "load with `simdgroup_load` or plain loads: asynchronous copies are not modelled"),
    ("simdgroup_async_copy", "load with `simdgroup_load` or plain loads: asynchronous copies are not modelled"),
    ("atomic_thread_fence", "use a barrier with memory flags: fences are not modelled"),
    ("intersector", "leave ray tracing out: it is not modelled"),
    ("visible_function_table", "call functions directly: function tables are not modelled"),
    ("goto", "use structured control flow: Metal has no `goto`"),
    ("new", "declare arrays: Metal has no heap"),
    ("delete", "declare arrays: Metal has no heap"),
    ("virtual", "use templates: Metal has no virtual functions"),
    ("throw", "return a value: Metal has no exceptions"),
    ("try", "return a value: Metal has no exceptions"),
    ("catch", "return a value: Metal has no exceptions"),
    ("dynamic_cast", "use templates: Metal has no run-time types"),
    ("typeid", "use templates: Metal has no run-time types"),
    ("thread_local", "use a local variable: Metal has no thread-local storage"),
    ("std", "use namespace `metal`: Metal has no C++ standard library"),
    ("printf", "write the value to an output: Metal kernels do not print"),
    ("asm", "use Metal's functions: Metal has no inline assembly"),
    ("__asm__", "use Metal's functions: Metal has no inline assembly"),
];

const TEXTURE: &str = "pass a buffer: textures are not modelled";

/// Words that only Metal has, but for `threadgroup`, which also makes objects.
pub(super) const ADDRESS_SPACES: [&str; 4] = ["device", "constant", "thread", "kernel"];

/// Whether a port cannot be called so: it means something to Metal.
pub(crate) fn is_reserved(name: &str) -> bool {
    const OTHERS: [&str; 3] = ["threadgroup", "half", "bfloat"];
    let refused = || REFUSED.iter().any(|(word, _)| *word == name);
    ADDRESS_SPACES.contains(&name) || OTHERS.contains(&name) || vector_type(name) || matrix_type(name) || refused()
}

/// `float2` … `ulong4`
pub(super) fn vector_type(word: &str) -> bool {
    let scalar = word.strip_suffix(['2', '3', '4']).unwrap_or_default();
    ["float", "half", "bfloat", "int", "uint", "short", "ushort", "char", "uchar", "long", "ulong", "bool"]
        .contains(&scalar)
}

/// `float2x2` … `half4x4`
pub(super) fn matrix_type(word: &str) -> bool {
    let dimensions = word.strip_prefix("float").or_else(|| word.strip_prefix("half"));
    matches!(dimensions.map(str::as_bytes), Some([b'2'..=b'4', b'x', b'2'..=b'4']))
}

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
