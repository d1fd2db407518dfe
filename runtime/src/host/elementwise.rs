//! A formula of several operands, in one pass.

use crate::error::{Error, Result};
use crate::ffi;
use crate::mode::Infer;
use crate::tensor::{Origin, Tensor};

use super::threads::{pieces_for, share_out, vectorised};

/// Elements whose operands are loaded together: a few vectors of each.
const BLOCK: usize = 64;

/// The formula that [`elementwise`] computes: K results of N operands. Mark `of` `#[inline(always)]`, else it is not
/// vectorised.
pub trait Formula<const N: usize, const K: usize>: Sync {
    /// The results at one place.
    fn of(&self, operands: [f32; N]) -> [f32; K];
}

/// `formula` of the elements of `inputs`, which have one shape; one result for each of its values. `None` where this is
/// not the CPU backend, or the inputs are not float32: compose operations there.
///
/// # Errors
/// Shapes that differ; [`Error::Mlx`] if an input cannot be computed.
pub fn elementwise<const N: usize, const K: usize>(
    inputs: [&Tensor<Infer>; N],
    formula: &impl Formula<N, K>,
) -> Result<Option<[Tensor<Infer>; K]>> {
    if !super::takes(&inputs)? {
        return Ok(None);
    }
    let shape = inputs[0].shape();
    if let Some(other) = inputs.iter().find(|input| input.shape() != shape) {
        return Err(Error::Shape {
            operation: "elementwise",
            found: format!("{shape:?} and {:?}", other.shape()),
            expected: "one shape".into(),
        });
    }
    let origin = Origin::join("elementwise", inputs.iter().map(|input| input.origin()))?;
    let operands = ffi::HostSlices::new("elementwise", inputs.map(Tensor::array))?;
    let operands = operands.slices();
    let mut results: [Vec<f32>; K] = std::array::from_fn(|_| vec![0.0; inputs[0].size()]);
    apply(operands, results.each_mut().map(Vec::as_mut_slice), formula);
    Ok(Some(results.map(|values| Tensor::from_parts(ffi::array_of_vec(values, shape), origin))))
}

/// One piece of the work: a part of every operand and of every result.
type Piece<'a, const N: usize, const K: usize> = ([&'a [f32]; N], [&'a mut [f32]; K]);

fn apply<const N: usize, const K: usize>(
    operands: [&[f32]; N],
    results: [&mut [f32]; K],
    formula: &impl Formula<N, K>,
) {
    let elements = operands[0].len();
    let length = elements.div_ceil(pieces_for(elements)).next_multiple_of(BLOCK).max(1);
    let mut results = results.map(|result| result.chunks_mut(length));
    let mut operands = operands.map(|operand| operand.chunks(length));
    let pieces: Vec<Piece<'_, N, K>> = (0..elements.div_ceil(length))
        .map(|_| {
            let operands = operands.each_mut().map(|chunks| chunks.next().unwrap_or_default());
            (operands, results.each_mut().map(|chunks| chunks.next().unwrap_or_default()))
        })
        .collect();
    share_out(pieces, &|(operands, results)| apply_to_piece(operands, results, formula));
}

vectorised! {
    [const N: usize, const K: usize, F: Formula<N, K>]
    fn apply_to_piece(
        operands: [&[f32]; N],
        results: [&mut [f32]; K],
        formula: &F,
    ) {
        let elements = operands[0].len();
        let mut results = results;
        for start in (0..elements).step_by(BLOCK) {
            let length = BLOCK.min(elements - start);
            // Arrays of a known length need no bounds checks, so that the compiler vectorises the loop.
            let mut loaded = [[0.0_f32; BLOCK]; N];
            for (block, operand) in loaded.iter_mut().zip(operands) {
                block[..length].copy_from_slice(&operand[start..start + length]);
            }
            let mut computed = [[0.0_f32; BLOCK]; K];
            for index in 0..BLOCK {
                let values = formula.of(std::array::from_fn(|operand| loaded[operand][index]));
                for (block, value) in computed.iter_mut().zip(values) {
                    block[index] = value;
                }
            }
            for (result, block) in results.iter_mut().zip(computed) {
                result[start..start + length].copy_from_slice(&block[..length]);
            }
        }
    }
}
