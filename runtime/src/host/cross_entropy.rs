//! The cross-entropy of rows and its gradient: three passes over a row, which stays in the cache.

use crate::error::{Error, Result};
use crate::ffi;
use crate::mode::Infer;
use crate::tensor::Tensor;

use super::exponential::exp;
use super::threads::{pieces_for, share_out, vectorised};

/// The losses and gradients that [`cross_entropy_rows`] returns.
pub struct CrossEntropyRows {
    /// `-log softmax(logits)[label]` of each row: `[N]`.
    pub losses: Tensor<Infer>,
    /// The gradient of the sum of the losses with respect to the logits, softmax less 1 at the label: `[N, V]`.
    pub slopes: Tensor<Infer>,
}

/// Lanes of a sum: fixed, so that the result does not depend on the processor's vectors.
const LANES: usize = 16;

/// Losses and slopes of `logits` `[N, V]` at one label a row. A row that holds no number gives none. `None` where this is
/// not the CPU backend, or the logits are not float32: compose operations there.
///
/// # Errors
/// Logits of another shape, a label that is not below `V`; [`Error::Mlx`] if the logits cannot be computed.
pub fn cross_entropy_rows(logits: &Tensor<Infer>, labels: &[i32]) -> Result<Option<CrossEntropyRows>> {
    const OPERATION: &str = "cross_entropy_rows";
    if !super::takes(&[logits])? {
        return Ok(None);
    }
    let &[rows, width] = logits.shape() else { return Err(shape_error(logits, labels)) };
    if rows as usize != labels.len() || width == 0 {
        return Err(shape_error(logits, labels));
    }
    if let Some(label) = labels.iter().find(|label| !(0..width).contains(*label)) {
        return Err(Error::IndexOutOfRange { operation: OPERATION, index: (*label).into(), length: width.into() });
    }
    let operand = ffi::HostSlices::new(OPERATION, [logits.array()])?;
    let [values] = operand.slices();
    let width = width as usize;
    let mut slopes = vec![0.0; values.len()];
    let mut losses = vec![0.0; labels.len()];
    let rows_of_a_piece = labels.len().div_ceil(pieces_for(values.len())).max(1);
    let pieces: Vec<_> = values
        .chunks(rows_of_a_piece * width)
        .zip(slopes.chunks_mut(rows_of_a_piece * width))
        .zip(losses.chunks_mut(rows_of_a_piece))
        .zip(labels.chunks(rows_of_a_piece))
        .collect();
    share_out(pieces, &|(((values, slopes), losses), labels)| of_piece(values, slopes, losses, labels));
    Ok(Some(CrossEntropyRows {
        losses: Tensor::from_parts(ffi::array_of_vec(losses, &[rows]), logits.origin()),
        slopes: Tensor::from_parts(ffi::array_of_vec(slopes, logits.shape()), logits.origin()),
    }))
}

fn shape_error(logits: &Tensor<Infer>, labels: &[i32]) -> Error {
    Error::Shape {
        operation: "cross_entropy_rows",
        found: format!("{:?} and {} labels", logits.shape(), labels.len()),
        expected: "[N, V] and N labels".into(),
    }
}

vectorised! {
    []
    fn of_piece(values: &[f32], slopes: &mut [f32], losses: &mut [f32], labels: &[i32]) {
        let width = values.len() / labels.len().max(1);
        let rows = values.chunks_exact(width).zip(slopes.chunks_exact_mut(width));
        for ((values, slopes), (loss, label)) in rows.zip(losses.iter_mut().zip(labels)) {
            let label = *label as usize;
            *loss = softmax(values, slopes) - values[label];
            slopes[label] -= 1.0;
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
