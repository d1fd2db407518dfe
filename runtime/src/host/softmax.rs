//! The softmax of rows, and what losses need of it.

use crate::error::{Error, Result};
use crate::ffi;
use crate::mode::Infer;
use crate::tensor::Tensor;

use super::exponential::exp;
use super::threads::{pieces_for, share_out, vectorised};

/// What [`softmax_rows`] returns.
pub struct SoftmaxRows {
    /// `e^x / sum(e^x)` along the last axis, in the shape of the scores.
    pub probabilities: Tensor<Infer>,
    /// `log(sum(e^x))` of each row: the shape of the scores with a last axis of 1.
    pub log_sum_exp: Tensor<Infer>,
}

/// Lanes of a sum: fixed, so that the result does not depend on the processor's vectors.
const LANES: usize = 16;

/// Softmax and log-sum-exp of `scores` along the last axis. A row of which all is minus infinity gives NaN, as it does
/// elsewhere. `None` where this is not the CPU backend, or the scores are not float32: compose operations there.
///
/// # Errors
/// Scores without axes; [`Error::Mlx`] if they cannot be computed.
pub fn softmax_rows(scores: &Tensor<Infer>) -> Result<Option<SoftmaxRows>> {
    if !super::takes(&[scores])? {
        return Ok(None);
    }
    let Some((&width, leading)) = scores.shape().split_last() else {
        return Err(Error::Shape {
            operation: "softmax_rows",
            found: "a tensor without axes".into(),
            expected: "at least one axis".into(),
        });
    };
    let operand = ffi::HostSlices::of("softmax_rows", [scores.array()])?;
    let [values] = operand.slices();
    let width = (width as usize).max(1);
    let rows = values.len() / width;
    let mut probabilities = vec![0.0; values.len()];
    let mut log_sum_exp = vec![0.0; rows];
    let rows_of_a_piece = rows.div_ceil(pieces_for(values.len())).max(1);
    let pieces: Vec<_> = values
        .chunks(rows_of_a_piece * width)
        .zip(probabilities.chunks_mut(rows_of_a_piece * width))
        .zip(log_sum_exp.chunks_mut(rows_of_a_piece))
        .collect();
    share_out(pieces, &|((values, probabilities), log_sum_exp)| {
        softmax_of_piece(values, probabilities, log_sum_exp);
    });
    let column: Vec<i32> = leading.iter().copied().chain([1]).collect();
    Ok(Some(SoftmaxRows {
        probabilities: Tensor::from_parts(ffi::array_of_vec(probabilities, scores.shape()), scores.origin()),
        log_sum_exp: Tensor::from_parts(ffi::array_of_vec(log_sum_exp, &column), scores.origin()),
    }))
}

vectorised! {
    []
    fn softmax_of_piece(values: &[f32], probabilities: &mut [f32], log_sum_exp: &mut [f32]) {
        let width = values.len() / log_sum_exp.len().max(1);
        let rows = values.chunks_exact(width).zip(probabilities.chunks_exact_mut(width));
        for ((values, probabilities), log_sum_exp) in rows.zip(log_sum_exp) {
            *log_sum_exp = softmax(values, probabilities);
        }
    }
}

/// Writes the softmax of a row, and returns its log-sum-exp.
#[inline(always)]
fn softmax(values: &[f32], probabilities: &mut [f32]) -> f32 {
    let largest = reduce(values, f32::NEG_INFINITY, |largest, value| if value > largest { value } else { largest });
    let (blocks, rest) = values.as_chunks::<LANES>();
    let (written, written_rest) = probabilities.as_chunks_mut::<LANES>();
    for (block, written) in blocks.iter().zip(written) {
        for lane in 0..LANES {
            written[lane] = exp(block[lane] - largest);
        }
    }
    for (value, written) in rest.iter().zip(written_rest) {
        *written = exp(value - largest);
    }
    let sum = reduce(probabilities, 0.0, |sum, value| sum + value);
    let scale = 1.0 / sum;
    for probability in probabilities {
        *probability *= scale;
    }
    largest + sum.ln()
}

/// A reduction in [`LANES`] lanes, which are then joined in order.
#[inline(always)]
fn reduce(values: &[f32], start: f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] = join(lanes[lane], block[lane]);
        }
    }
    let joined = lanes.into_iter().fold(start, &join);
    rest.iter().fold(joined, |joined, value| join(joined, *value))
}
