//! Words of C++ that Metal leaves out, and words of Metal that are not modelled here (Metal Shading Language Specification, "Metal and C++17").

/// The advice about a lambda, which Metal has from version 4 on.
pub const INSTEAD_OF_A_LAMBDA: &str =
    "write the expression where it is used, a macro, or a function in a header: `headers = [..]`";

/// Words of C++ that Metal leaves out, each with what to do instead.
pub const LEFT_OUT: &[(&str, &str)] = &[
    ("asm", "use Metal's functions: Metal has no assembly"),
    ("catch", "return a value: Metal has no exceptions"),
    ("delete", "declare arrays: Metal has no heap"),
    ("dynamic_cast", "use templates: Metal has no types at run time"),
    ("goto", "write `if`, `for` and `while`: Metal has no `goto`"),
    ("new", "declare arrays: Metal has no heap"),
    ("printf", "write the value to an output: Metal kernels do not print"),
    ("register", "leave the word out"),
    ("static", "make it `constexpr`, or pass its value from launch to launch through an output"),
    ("std", "use namespace `metal`: Metal has no C++ standard library"),
    ("thread_local", "declare a variable: each thread has its own"),
    ("throw", "return a value: Metal has no exceptions"),
    ("try", "return a value: Metal has no exceptions"),
    ("typeid", "use templates: Metal has no types at run time"),
    ("virtual", "use templates: Metal has no virtual functions"),
];

/// `long long`, two words that make one type of C++.
pub(crate) const LONG_LONG: &str = "long long";

/// Returns what to use instead of a word that Metal leaves out.
pub fn instead_of(word: &str) -> &'static str {
    if word == LONG_LONG {
        return "write `long`: it has 64 bits";
    }
    LEFT_OUT.iter().find(|(known, _)| *known == word).map_or("leave it out", |(_, instead)| instead)
}

/// Words of Metal that no translation knows, and words that Metal has not, each with what to do instead.
pub const NOT_MODELLED: &[(&str, &str)] = &[
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
    ("__asm__", "use Metal's functions: Metal has no inline assembly"),
];

const BITS_565: &str = "take the bits apart with shifts: which of them are red is not modelled";
const FRAGMENT: &str = "leave it out: only fragment functions have it, and a kernel is none";
const FENCE: &str = "use a barrier with memory flags: fences are not modelled";
const ORDER: &str = "use `memory_order_relaxed`: Metal's atomic operations have no other";
const TEXTURE: &str = "pass a buffer: textures are not modelled";
