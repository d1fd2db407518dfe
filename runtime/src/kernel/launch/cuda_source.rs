//! The program that MLX makes of a CUDA kernel, and the name under which it keeps the compiled module.
//!
//! MLX 0.32.2 keeps a custom kernel's module by the kernel's name and a hash of the whole program, including MLX's own
//! includes and the signature around the source. Code that puts a compiled module where MLX looks for it must reproduce
//! both exactly. `mlx/backend/cuda/custom_kernel.cpp` shows how the program is assembled; since MLX's pull request 4273
//! the hash is `std::hash` of a string, in hexadecimal. Where this is wrong, MLX finds no module and compiles the
//! kernel itself.

use super::cuda::cuda_type;
use crate::Dtype;

/// MLX's name of a custom kernel starts so.
const PREFIX: &str = "custom_kernel_";

/// An array a kernel reads.
#[derive(Clone, Debug)]
pub(super) struct Input<'a> {
    pub(super) name: &'a str,
    pub(super) dtype: Dtype,
    /// Whether it has no dimensions: then its shape is no argument.
    pub(super) scalar: bool,
}

/// The kernel source and port list that MLX is given.
#[derive(Clone, Debug)]
pub(super) struct CudaSource<'a> {
    pub(super) name: &'a str,
    pub(super) header: &'a str,
    pub(super) source: &'a str,
    pub(super) inputs: Vec<Input<'a>>,
    pub(super) outputs: Vec<(&'a str, Dtype)>,
}

impl CudaSource<'_> {
    /// The function's name, without its namespace.
    pub(super) fn entry(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// The name of the module.
    pub(super) fn module(&self) -> String {
        format!("{}_{:x}", self.entry(), string_hash(self.program().as_bytes()))
    }

    fn program(&self) -> String {
        let CudaSource { header, source, .. } = self;
        let mut arguments = Vec::new();
        for Input { name, dtype, scalar } in &self.inputs {
            arguments.push(format!("    const {}* {name}", cuda_type(*dtype)));
            let properties = [("Shape", "shape"), ("Strides", "strides"), ("int", "ndim")];
            let used = |suffix: &str| !scalar && source.contains(&format!("{name}_{suffix}"));
            arguments.extend(
                properties
                    .iter()
                    .filter(|(_, suffix)| used(suffix))
                    .map(|(declared, suffix)| format!("    const __grid_constant__ {declared} {name}_{suffix}")),
            );
        }
        arguments.extend(self.outputs.iter().map(|(name, dtype)| format!("    {}* {name}", cuda_type(*dtype))));
        format!(
            "\n#include \"mlx/backend/cuda/device/utils.cuh\"\n\n#include <cooperative_groups.h>\n\n{header}\
             namespace mlx::core::cu {{\n\nnamespace cg = cooperative_groups;\n\n\
             __global__ void {}(\n{}) {{\n{source}\n}}\n\n}} // namespace mlx::core::cu\n",
            self.entry(),
            arguments.join(",\n"),
        )
    }
}

/// `std::hash<std::string>` of GNU's C++ library on 64 bits: MurmurHash64A (Appleby) with its own seed.
fn string_hash(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;
    const SEED: u64 = 0xc70f_6907;
    let mixed = |value: u64| value ^ (value >> 47);
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(FACTOR);
    for word in words {
        let word = mixed(u64::from_le_bytes(*word).wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
        hash = (hash ^ word).wrapping_mul(FACTOR);
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
    }
    mixed(mixed(hash).wrapping_mul(FACTOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_gnus_library() {
        // A program of five lines, compiled by g++ 13, printed these values.
        for (bytes, expected) in [
            (b"".as_slice(), 0x553e_9390_1e46_2a6e),
            (b"a", 0x454d_dee4_88c1_ed6b),
            (b"12345678", 0x8c5b_90a3_3a04_dca5),
            (b"mlx::core::cu kernel text\n", 0x8ce5_ed16_2ead_f494),
            (b"\xff\x80 seven+", 0x99d7_18d1_42d7_3059),
            (&[b'x'; 1000], 0x787c_8884_15fe_47ce),
        ] {
            assert_eq!(string_hash(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn the_program_has_mlxs_includes_and_the_arguments_that_the_text_uses() {
        let input = |name, dtype, scalar| Input { name, dtype, scalar };
        let source = CudaSource {
            name: "scaled_1",
            header: "#include \"/t/scaled_1.cuh\"\n",
            source: "call(x, x_shape.data(), s, s_shape, w, w_strides, w_ndim, y);",
            inputs: vec![input("x", Dtype::BF16, false), input("s", Dtype::F32, true), input("w", Dtype::I32, false)],
            outputs: vec![("y", Dtype::F16), ("z", Dtype::U32)],
        };
        let expected = r#"
#include "mlx/backend/cuda/device/utils.cuh"

#include <cooperative_groups.h>

#include "/t/scaled_1.cuh"
namespace mlx::core::cu {

namespace cg = cooperative_groups;

__global__ void custom_kernel_scaled_1(
    const __nv_bfloat16* x,
    const __grid_constant__ Shape x_shape,
    const float* s,
    const int32_t* w,
    const __grid_constant__ Strides w_strides,
    const __grid_constant__ int w_ndim,
    __half* y,
    uint32_t* z) {
call(x, x_shape.data(), s, s_shape, w, w_strides, w_ndim, y);
}

} // namespace mlx::core::cu
"#;
        assert_eq!(source.program(), expected);
        assert_eq!(source.module(), format!("custom_kernel_scaled_1_{:x}", string_hash(expected.as_bytes())));
    }
}
