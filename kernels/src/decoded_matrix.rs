//! Matrices of packed codes, decoded for one use.

use cotangent::{
    Backend, CodeFormat, CodeMode, Constant, Dtype, Graph, Indices, Packed, Result, Tensor, differentiable, host,
};

/// Decodes the codes of a matrix to numbers of `dtype`: `[rows, columns]`, or `[matrices, rows, columns]` of a stack.
///
/// They have the bits that MLX gives them on a CPU: in `dtype`, the product of code and scale is rounded, and then the sum with the
/// bias.
///
/// # Errors
/// [`Error::Mlx`](cotangent::Error::Mlx) if MLX refuses.
pub fn decoded_matrix<M: Graph>(matrix: &Packed, dtype: Dtype) -> Result<Tensor<M>> {
    if let Some(decoded) = host::decode_codes(matrix, dtype)? {
        return Ok(decoded.to_tensor());
    }
    let format = matrix.format();
    if !decodes_itself(cotangent::backend()?, format) {
        return Ok(matrix.decode(dtype)?.to_tensor());
    }
    let (codes, scales, biases) = matrix.flat()?.parts()?;
    let (scales, biases) = (scales.cast(dtype)?, biases.cast(dtype)?);
    let y = decode_affine(&codes, &scales, &biases, format.group_size(), format.bits())?;
    match matrix.matrices() {
        Some(count) => y.reshape(&[count, matrix.rows(), matrix.columns()]),
        None => Ok(y),
    }
}

/// Returns whether the kernel decodes, and not MLX.
///
/// On CUDA, MLX 0.32.2 reads a byte of codes a thread: on an H200, seven times slower than the memory. Codes that lie across words,
/// and floats of 4 and 8 bits, are rare, and MLX's.
fn decodes_itself(backend: Backend, format: CodeFormat) -> bool {
    backend != Backend::Cpu && format.mode() == CodeMode::Affine && matches!(format.bits(), 2 | 4 | 8)
}

/// Decodes a matrix of affine codes: words `[O, K * BITS / 32]`, scales and biases `[O, K / GROUP]` to `[O, K]`.
///
/// A thread has four words, 256 apart, so that neighbours read and write what is next to each other.
#[differentiable(
    fallback = decode_affine_by_operations,
    dims = [WORDS = GROUP * G * BITS / 32],
    requires = [O * WORDS >= 8, O * G >= 8, GROUP >= 32, GROUP % 32 == 0, BITS >= 2, 8 % BITS == 0],
    grid = (256 * ceil_div(O * WORDS, 1024), 1, 1),
    threads = (256, 1, 1),
    cases = [
        (O = 9, G = 1, GROUP = 32, BITS = 8),
        (O = 3, G = 3, GROUP = 64, BITS = 4),
        (O = 11, G = 1, GROUP = 128, BITS = 2),
        (O = 13, G = 10, GROUP = 32, BITS = 8),
    ],
)]
pub fn decode_affine<T: Float, const GROUP: usize, const BITS: usize>(
    #[values(0..4294967296)] codes: In![u32; O, WORDS],
    #[nodiff] scales: In![T; O, G],
    #[nodiff] biases: In![T; O, G],
    y: Out![T; O, GROUP * G],
) {
    metal! {
        ulong count = ulong(O) * ulong(WORDS);
        ulong first = ulong(threadgroup_position_in_grid.x) * 1024ul + ulong(thread_position_in_threadgroup.x);
        uint words[4];
        T factors[4];
        T offsets[4];
        #pragma unroll
        for (int i = 0; i < 4; ++i) {
            ulong at = min(first + ulong(256 * i), count - 1ul);
            ulong group = at / ulong(GROUP * BITS / 32);
            words[i] = codes[at];
            factors[i] = scales[group];
            offsets[i] = biases[group];
        }
        #pragma unroll
        for (int i = 0; i < 4; ++i) {
            ulong at = first + ulong(256 * i);
            if (at < count) {
                auto fours = (device vec<T, 4>*)(y + at * ulong(32 / BITS));
                constexpr uint LAST = (1u << BITS) - 1u;
                float factor = float(factors[i]);
                float offset = float(offsets[i]);
                #pragma unroll
                for (int four = 0; four < 8 / BITS; ++four) {
                    uint word = words[i] >> (4 * BITS * four);
                    // MLX rounds both the product and the sum.
                    T products[4] = {
                        T(factor * float(word & LAST)), T(factor * float(word >> BITS & LAST)),
                        T(factor * float(word >> 2 * BITS & LAST)), T(factor * float(word >> 3 * BITS & LAST))};
                    fours[four] = vec<T, 4>(
                        T(float(products[0]) + offset), T(float(products[1]) + offset), T(float(products[2]) + offset),
                        T(float(products[3]) + offset));
                }
            }
        }
    }
}

/// Decodes by MLX's operations.
fn decode_affine_by_operations<M: Graph>(
    codes: &Indices,
    scales: &Constant,
    biases: &Constant,
    group: usize,
    bits: usize,
) -> Result<Tensor<M>> {
    let format = CodeFormat::new(CodeMode::Affine, Some(group), Some(bits))?;
    let dtype = scales.dtype();
    Ok(Packed::from_parts(codes, scales, Some(biases), format, dtype)?.decode(dtype)?.to_tensor())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_decodes_affine_codes_that_lie_in_whole_words() {
        let affine = |bits| CodeFormat::new(CodeMode::Affine, None, Some(bits)).unwrap();
        for (bits, expected) in [(2, true), (3, false), (4, true), (5, false), (6, false), (8, true)] {
            assert!(!decodes_itself(Backend::Cpu, affine(bits)), "{bits} bits");
            for backend in [Backend::Cuda, Backend::Metal, Backend::Emulated] {
                assert_eq!(decodes_itself(backend, affine(bits)), expected, "{backend}, {bits} bits");
            }
        }
        for mode in [CodeMode::Mxfp4, CodeMode::Mxfp8, CodeMode::Nvfp4] {
            assert!(!decodes_itself(Backend::Cuda, CodeFormat::new(mode, None, None).unwrap()), "{mode:?}");
        }
    }
}
