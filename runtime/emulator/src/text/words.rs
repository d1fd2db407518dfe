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
    ("texture1d_array", TEXTURE),
    ("texture2d_array", TEXTURE),
    ("texture2d_ms", TEXTURE),
    ("texture2d_ms_array", TEXTURE),
    ("texturecube_array", TEXTURE),
    ("depth2d", TEXTURE),
    ("depth2d_array", TEXTURE),
    ("depth2d_ms", TEXTURE),
    ("depthcube", TEXTURE),
    ("depthcube_array", TEXTURE),
    ("sampler", TEXTURE),
    ("imageblock", TEXTURE),
    ("unpack_unorm565_to_float", BITS_565),
    ("unpack_unorm565_to_half", BITS_565),
    ("pack_float_to_unorm565", BITS_565),
    ("pack_half_to_unorm565", BITS_565),
    ("dfdx", FRAGMENT),
    ("dfdy", FRAGMENT),
    ("fwidth", FRAGMENT),
    ("discard_fragment", FRAGMENT),
    ("get_sample_position", FRAGMENT),
    ("simd_is_helper_thread", FRAGMENT),
    ("atomic_signal_fence", FENCE),
    ("memory_order_acquire", ORDER),
    ("memory_order_release", ORDER),
    ("memory_order_acq_rel", ORDER),
    ("memory_order_seq_cst", ORDER),
    ("matmul2d", "use `tile` or `simdgroup_matrix`: tensors are not modelled"),
    ("os_log", "write the value to an output: logging is not modelled"),
    ("simdgroup_event", "load with `simdgroup_load` or plain loads: asynchronous copies are not modelled"),
    ("simdgroup_async_copy", "load with `simdgroup_load` or plain loads: asynchronous copies are not modelled"),
    ("atomic_thread_fence", FENCE),
    ("intersector", "leave ray tracing out: it is not modelled"),
    ("intersection_query", "leave ray tracing out: it is not modelled"),
    ("acceleration_structure", "leave ray tracing out: it is not modelled"),
    ("intersection_function_table", "leave ray tracing out: it is not modelled"),
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

const BITS_565: &str = "take the bits apart with shifts: which of them are red is not modelled";
const FRAGMENT: &str = "leave it out: only fragment functions have it, and a kernel is none";
const FENCE: &str = "use a barrier with memory flags: fences are not modelled";
const ORDER: &str = "use `memory_order_relaxed`: Metal's atomic operations have no other";
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
        for (word, help) in REFUSED.iter().chain([&("float4x4", "use vectors, `simdgroup_matrix` or `tile`")]) {
            let text = format!("y[0] = x[0];\n{word}{} a(x[0]);", if *word == "std" { "::sort" } else { "" });
            for target in [Target::Host { arms: false, double: false }, Target::Check, Target::Cuda] {
                let source = Source::new("k.metal", text.as_str());
                let error = rewrite(&source, target, Context::default(), &mut Vec::new()).expect_err(word).to_string();
                assert!(error.starts_with(&format!("k.metal:2: `{word}` ")), "{error}");
                assert!(error.contains(&format!("help: {help}")), "{error}");
            }
        }
    }
}
