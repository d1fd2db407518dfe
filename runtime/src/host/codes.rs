//! The numbers that packed codes stand for, in one pass.

use crate::constant::Constant;
use crate::dtype::Dtype;
use crate::error::{Context as _, Error, Result};
use crate::ffi;
use crate::packed::{CodeMode, Packed};
use crate::{Backend, backend};

use super::threads::{pieces_for, share_out, vectorised};

const OPERATION: &str = "decode_codes";

/// Affine codes that are decoded together. They fill as many whole words as a code has bits.
const BLOCK: usize = 32;

/// Decodes a matrix, or several of one shape, to float32. `None` where this is not the CPU backend, or another `dtype` is
/// wanted: MLX decodes there.
///
/// The numbers have the bits that MLX gives them: the product of code and scale is rounded, and then the sum with the bias.
///
/// # Errors
/// [`Error::Mlx`] if the codes cannot be computed.
pub fn decode_codes(matrix: &Packed, dtype: Dtype) -> Result<Option<Constant>> {
    if backend()? != Backend::Cpu || dtype != Dtype::F32 {
        return Ok(None);
    }
    let (format, [words, scales], biases) = (matrix.format(), matrix.arrays(), matrix.array_of_biases());
    let shape: Vec<i32> = matrix.matrices().into_iter().chain([matrix.rows(), matrix.columns()]).collect();
    let mut values = vec![0.0; shape.iter().map(|extent| *extent as usize).product()];
    let words = ffi::HostSlices::new(OPERATION, [words])?;
    let [words] = words.slices();
    match biases {
        Some(biases) => {
            let float32 = |part: &mlx_rs::Array| part.as_dtype(mlx_rs::Dtype::Float32).during(OPERATION);
            let parts = ffi::HostSlices::new(OPERATION, [&float32(scales)?, &float32(biases)?])?;
            let [scales, biases] = parts.slices();
            match format.bits() {
                2 => affine::<2>(words, scales, biases, &mut values),
                3 => affine::<3>(words, scales, biases, &mut values),
                4 => affine::<4>(words, scales, biases, &mut values),
                5 => affine::<5>(words, scales, biases, &mut values),
                6 => affine::<6>(words, scales, biases, &mut values),
                8 => affine::<8>(words, scales, biases, &mut values),
                bits => return Err(Error::Other(format!("{OPERATION} knows no affine codes of {bits} bits"))),
            }
        }
        None => {
            let parts = ffi::HostSlices::new(OPERATION, [scales])?;
            let [bytes]: [&[u8]; 1] = parts.slices();
            let scale = |byte: &u8| match format.mode() {
                CodeMode::Nvfp4 => EIGHT_BITS[usize::from(*byte)],
                _ => power_of_two(*byte),
            };
            let scales: Vec<f32> = bytes.iter().map(scale).collect();
            match format.mode() {
                CodeMode::Mxfp8 => floats::<8, 32>(words, &scales, &EIGHT_BITS, &mut values),
                CodeMode::Nvfp4 => floats::<2, 16>(words, &scales, &FOUR_BITS, &mut values),
                _ => floats::<4, 32>(words, &scales, &FOUR_BITS, &mut values),
            }
        }
    }
    Ok(Some(Constant::from_array(ffi::array_of_vec(values, &shape))))
}

/// The floats of 4 bits: e2m1.
static FOUR_BITS: [f32; 256] = floats_of(2, 1);

/// The floats of 8 bits: e4m3.
static EIGHT_BITS: [f32; 256] = floats_of(4, 3);

/// All floats of a sign and these numbers of bits of exponent and mantissa, none of which is infinite or NaN. The rest of
/// the table is never read.
const fn floats_of(exponent_bits: usize, mantissa_bits: usize) -> [f32; 256] {
    let bias = (1 << (exponent_bits - 1)) - 1;
    let mut table = [0.0; 256];
    let mut code = 0;
    while code < 1 << (1 + exponent_bits + mantissa_bits) {
        let mantissa = code & ((1 << mantissa_bits) - 1);
        let exponent = code >> mantissa_bits & ((1 << exponent_bits) - 1);
        let (whole, exponent) = if exponent == 0 { (mantissa, 1) } else { (mantissa + (1 << mantissa_bits), exponent) };
        let size = whole as f32 * f32::from_bits(((127 + exponent - bias - mantissa_bits) as u32) << 23);
        table[code] = if code >> (exponent_bits + mantissa_bits) == 0 { size } else { -size };
        code += 1;
    }
    table
}

/// `2^(byte - 127)`, as in MLX.
fn power_of_two(byte: u8) -> f32 {
    // Zero stands for 2^-127, which has no exponent of its own in float32.
    f32::from_bits(if byte == 0 { 1 << 22 } else { u32::from(byte) << 23 })
}

/// Decodes affine codes of `BITS` bits; every scale and bias is that of as many codes.
fn affine<const BITS: usize>(words: &[u32], scales: &[f32], biases: &[f32], values: &mut [f32]) {
    let group = values.len() / scales.len().max(1);
    let groups = groups_of_a_piece(scales.len(), values.len());
    let parameters = scales.chunks(groups).zip(biases.chunks(groups));
    let pieces: Vec<_> =
        words.chunks(groups * group * BITS / 32).zip(values.chunks_mut(groups * group)).zip(parameters).collect();
    share_out(pieces, &|((words, values), (scales, biases))| {
        affine_piece(words.as_chunks::<BITS>().0, values.as_chunks_mut::<BLOCK>().0, scales, biases);
    });
}

/// Decodes floats by a `table`, in groups of `GROUP` codes, which take `WORDS` words.
fn floats<const WORDS: usize, const GROUP: usize>(
    words: &[u32],
    scales: &[f32],
    table: &[f32; 256],
    values: &mut [f32],
) {
    let groups = groups_of_a_piece(scales.len(), values.len());
    let pieces: Vec<_> =
        words.chunks(groups * WORDS).zip(values.chunks_mut(groups * GROUP)).zip(scales.chunks(groups)).collect();
    share_out(pieces, &|((words, values), scales)| {
        floats_piece(words.as_chunks::<WORDS>().0, values.as_chunks_mut::<GROUP>().0, scales, table);
    });
}

/// Groups that one thread decodes.
fn groups_of_a_piece(groups: usize, values: usize) -> usize {
    groups.div_ceil(pieces_for(values)).max(1)
}

vectorised! {
    [const BITS: usize]
    fn affine_piece(words: &[[u32; BITS]], values: &mut [[f32; BLOCK]], scales: &[f32], biases: &[f32]) {
        let blocks = words.len() / scales.len().max(1);
        let groups = words.chunks_exact(blocks).zip(values.chunks_exact_mut(blocks));
        for ((words, values), (scale, bias)) in groups.zip(scales.iter().zip(biases)) {
            for (words, values) in words.iter().zip(values) {
                let codes = codes_of::<BITS, BLOCK>(words);
                let mut index = 0;
                while index < BLOCK {
                    values[index] = codes[index] as f32 * scale + bias;
                    index += 1;
                }
            }
        }
    }
}

vectorised! {
    [const WORDS: usize, const GROUP: usize]
    fn floats_piece(words: &[[u32; WORDS]], values: &mut [[f32; GROUP]], scales: &[f32], table: &[f32; 256]) {
        for ((words, values), scale) in words.iter().zip(values).zip(scales) {
            let codes = codes_of::<WORDS, GROUP>(words);
            let mut index = 0;
            while index < GROUP {
                values[index] = table[codes[index] as u8 as usize] * scale;
                index += 1;
            }
        }
    }
}

/// The codes in these words: bits one after the other, the lowest first.
//
// This and its callers use `while`, because iterators take five times as long in builds without optimisation, in which tests run.
#[inline(always)]
const fn codes_of<const WORDS: usize, const CODES: usize>(words: &[u32; WORDS]) -> [u32; CODES] {
    let width = 32 * WORDS / CODES;
    let mut codes = [0; CODES];
    let mut first = 0;
    while first < CODES {
        // Eight codes take as many bytes as a code has bits, and lie within two words.
        let (word, shift) = (first * width / 32, first * width % 32);
        let high = if word + 1 < WORDS { words[word + 1] } else { 0 };
        let bits = (words[word] as u64 | (high as u64) << 32) >> shift;
        let mut lane = 0;
        while lane < 8 {
            codes[first + lane] = (bits >> (lane * width)) as u32 & ((1 << width) - 1);
            lane += 1;
        }
        first += 8;
    }
    codes
}
