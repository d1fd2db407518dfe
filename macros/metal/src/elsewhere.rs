//! Words and functions of other languages that people write in Metal, each with Metal's own.

use crate::names::is_function;

/// Functions, beside those of C that end in `f`.
const FUNCTIONS: &[(&str, &str)] = &[
    ("__shfl_down_sync", "simd_shuffle_down(v, lanes)"),
    ("__shfl_sync", "simd_shuffle(v, lane)"),
    ("__shfl_up_sync", "simd_shuffle_up(v, lanes)"),
    ("__shfl_xor_sync", "simd_shuffle_xor(v, mask)"),
    ("__syncthreads", "threadgroup_barrier(mem_flags::mem_threadgroup)"),
    ("__syncwarp", "simdgroup_barrier(mem_flags::mem_none)"),
    ("atomicAdd", "atomic_fetch_add_explicit(&y[i], v, memory_order_relaxed)"),
    ("barrier", "threadgroup_barrier(mem_flags::mem_threadgroup)"),
    ("cbrt", "pow(v, 1.0f / 3.0f)"),
    ("erfc", "1.0f - erf(v)"),
    ("frac", "fract(v)"),
    ("get_global_id", "thread_position_in_grid"),
    ("get_group_id", "threadgroup_position_in_grid"),
    ("get_local_id", "thread_position_in_threadgroup"),
    ("hypot", "length(float2(a, b))"),
    ("inversesqrt", "rsqrt(v)"),
    ("lerp", "mix(a, b, v)"),
    ("logsumexp", "log(exp(a) + exp(b))"),
    ("rcp", "1.0f / v"),
    ("sigmoid", "1.0f / (1.0f + exp(-v))"),
];

/// Other words: of CUDA, OpenCL, GLSL, HLSL, Rust and NumPy.
const WORDS: &[(&str, &str)] = &[
    ("False", "`false`"),
    ("Float", "`float`"),
    ("Half", "`half`"),
    ("True", "`true`"),
    ("__device__", "nothing: a function in a header has no such word"),
    ("__global", "`device`"),
    ("__global__", "nothing: the declaration makes the kernel from its signature"),
    ("__half", "`half`"),
    ("__local", "`threadgroup`"),
    ("__nv_bfloat16", "`bfloat`"),
    ("__shared__", "`threadgroup`"),
    ("as", "a cast in the manner of C++: `float(x)`"),
    ("bf16", "`bfloat`"),
    ("bfloat16", "`bfloat`"),
    ("blockDim", "`threads_per_threadgroup`"),
    ("blockIdx", "`threadgroup_position_in_grid`"),
    ("boolean", "`bool`"),
    ("elif", "`else if`"),
    ("elseif", "`else if`"),
    ("f16", "`half`"),
    ("f32", "`float`"),
    ("f64", "`float`: Metal has no 64-bit floating point"),
    ("float16", "`half`"),
    ("float32", "`float`"),
    ("fn", "a function in a header: `headers = [..]`"),
    ("gl_GlobalInvocationID", "`thread_position_in_grid`"),
    ("gl_LocalInvocationID", "`thread_position_in_threadgroup`"),
    ("gl_WorkGroupID", "`threadgroup_position_in_grid`"),
    ("gridDim", "`threadgroups_per_grid`"),
    ("groupshared", "`threadgroup`"),
    ("i16", "`short`"),
    ("i32", "`int`"),
    ("i64", "`long`"),
    ("i8", "`char`"),
    ("in", "a loop in the manner of C++: `for (int j = 0; j < 3; ++j)`"),
    ("int16", "`short`"),
    ("int32", "`int`"),
    ("int64", "`long`"),
    ("int8", "`char`"),
    ("ivec2", "`int2`"),
    ("ivec3", "`int3`"),
    ("ivec4", "`int4`"),
    ("let", "the type of the variable, or `auto`"),
    ("math", "the function alone: `exp(v)`"),
    ("mut", "nothing: variables can be changed unless they are `const`"),
    ("np", "the function alone: `exp(v)`"),
    ("null", "`nullptr`"),
    ("nv_bfloat16", "`bfloat`"),
    ("threadIdx", "`thread_position_in_threadgroup`"),
    ("u16", "`ushort`"),
    ("u32", "`uint`"),
    ("u64", "`ulong`"),
    ("u8", "`uchar`"),
    ("uint16", "`ushort`"),
    ("uint32", "`uint`"),
    ("uint64", "`ulong`"),
    ("uint8", "`uchar`"),
    ("usize", "`uint`"),
    ("uvec2", "`uint2`"),
    ("uvec3", "`uint3`"),
    ("uvec4", "`uint4`"),
    ("var", "the type of the variable, or `auto`"),
    ("vec2", "`float2`"),
    ("vec3", "`float3`"),
    ("vec4", "`float4`"),
    ("warpSize", "`threads_per_simdgroup`"),
];

/// Returns what to write instead of a function of another language: `exp` for `expf`.
pub fn function_in_metal(function: &str) -> Option<&str> {
    let of_c = || function.strip_suffix('f').filter(|name| is_function(name) && !is_function(function));
    FUNCTIONS.iter().find(|(known, _)| *known == function).map(|(_, metal)| *metal).or_else(of_c)
}

/// Returns what to write instead of another word of another language.
pub fn word_in_metal(word: &str) -> Option<&'static str> {
    WORDS.iter().find(|(known, _)| *known == word).map(|(_, metal)| *metal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{is_attribute, is_constant, is_keyword, is_type};

    #[test]
    fn functions_of_other_languages_have_a_name_in_metal() {
        for (function, metal) in [
            ("expf", Some("exp")),
            ("fabsf", Some("fabs")),
            ("fmaxf", Some("fmax")),
            ("rsqrtf", Some("rsqrt")),
            ("isnanf", Some("isnan")),
            ("hypot", Some("length(float2(a, b))")),
            ("exp", None),
            ("erf", None),
            ("isinf", None),
            ("half", None),
            ("norm_of", None),
        ] {
            assert_eq!(function_in_metal(function), metal, "{function}");
        }
    }

    #[test]
    fn no_word_is_one_of_metal() {
        for (word, _) in WORDS.iter().filter(|(word, _)| !word.starts_with("__")) {
            assert!(!is_keyword(word) && !is_type(word) && !is_attribute(word) && !is_constant(word), "{word}");
        }
        assert!(FUNCTIONS.iter().all(|(function, _)| !is_function(function)));
    }
}
