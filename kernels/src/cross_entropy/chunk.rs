//! One chunk of rows, and the head it goes through.

use cotangent::host::{CrossEntropyRows, cross_entropy_rows};
use cotangent::{Backend, Constant, Dtype, Indices, Infer, Packed, Result, Tensor};

use crate::decoded_matrix::decoded_matrix;
use crate::packed_linear::multiplies_codes;

use super::labels::{Counted, Labels};
use super::softmax::{LabelLossesOutputs, label_losses};

/// The rows that count, in chunks.
pub(super) struct Chunks<'a> {
    chunks: std::slice::Chunks<'a, Counted>,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(labels: &'a Labels, vocabulary: i32, bytes: usize) -> Self {
        let row_bytes = Dtype::F32.size() * vocabulary.max(1) as usize;
        let counted = labels.counted();
        Chunks { chunks: counted.chunks(rows_of_a_chunk(counted.len(), (bytes / row_bytes).max(1))) }
    }
}

/// Rows of each chunk but the last: as few chunks of `most` rows as hold all, but of even lengths. A last chunk of a few
/// rows would cost a GPU other kernels, for which MLX throws a graph away that still runs, and waits for it.
fn rows_of_a_chunk(rows: usize, most: usize) -> usize {
    // A tile of a matrix product has this many rows.
    const TILE: usize = 16;
    let most = if most < TILE { most } else { most - most % TILE };
    let even = rows.div_ceil(rows.div_ceil(most).max(1)).max(1);
    even.next_multiple_of(TILE).min(most)
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        self.chunks.next().map(Chunk)
    }
}

/// Some of the rows that count.
pub(super) struct Chunk<'a>(&'a [Counted]);

impl Chunk<'_> {
    /// Returns these rows of the hidden states in float32, taken only after `before` is computed.
    pub(super) fn rows(&self, hidden: &Tensor<Infer>, before: &[&Tensor<Infer>]) -> Result<Tensor<Infer>> {
        let rows: Vec<i32> = self.0.iter().map(|counted| counted.row).collect();
        let hidden = if before.is_empty() { hidden.clone() } else { hidden.after(before)? };
        hidden.take_rows(&Indices::from_slice(&rows, &[rows.len() as i32])?)?.cast(Dtype::F32)
    }

    /// `-log softmax(logits)[label]` of each row: `[rows]`.
    pub(super) fn losses(&self, logits: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        Ok(self.losses_and_slopes(logits, Dtype::F32)?.losses)
    }

    fn labels(&self) -> Result<Indices> {
        let labels: Vec<i32> = self.0.iter().map(|counted| counted.label).collect();
        Indices::from_slice(&labels, &[labels.len() as i32])
    }

    fn losses_and_slopes(&self, logits: &Tensor<Infer>, dtype: Dtype) -> Result<LabelLossesOutputs<Infer>> {
        label_losses(logits, &self.labels()?, &Constant::full(&[1], 1.0, dtype)?)
    }

    /// The losses again, and their gradient in a dtype, on a CPU in float32: there an operation of its own, elsewhere a
    /// kernel.
    pub(super) fn scores(&self, logits: &Tensor<Infer>, dtype: Dtype) -> Result<Scores> {
        let labels: Vec<i32> = self.0.iter().map(|counted| counted.label).collect();
        if let Some(CrossEntropyRows { losses, slopes }) = cross_entropy_rows(logits, &labels)? {
            return Ok(Scores { losses, slopes });
        }
        let LabelLossesOutputs { losses, slopes } = self.losses_and_slopes(logits, dtype)?;
        Ok(Scores { losses, slopes })
    }
}

/// The losses and gradients that the forward of a chunk computes where a gradient will be asked for, so that each logit
/// has one exponential.
pub(super) struct Scores {
    /// The losses of the rows, as [`Chunk::losses`] returns them.
    pub(super) losses: Tensor<Infer>,
    /// The gradient of the losses with respect to the logits, softmax less 1 at the label: `[rows, V]`.
    pub(super) slopes: Tensor<Infer>,
}

/// The matrix of a head.
#[derive(Clone)]
pub(super) enum Matrix {
    /// Floats, `[V, D]`.
    Dense(Tensor<Infer>),
    /// Packed codes.
    Packed(Packed),
}

impl Matrix {
    /// `[V, D]`.
    pub(super) fn shape(&self) -> [i32; 2] {
        match self {
            Matrix::Dense(matrix) => [matrix.dimension(0), matrix.dimension(1)],
            Matrix::Packed(matrix) => [matrix.rows(), matrix.columns()],
        }
    }

    fn dtype(&self) -> Dtype {
        match self {
            Matrix::Dense(matrix) => matrix.dtype(),
            Matrix::Packed(matrix) => matrix.dtype(),
        }
    }

    /// The rows from `start` to `end` as floats of `dtype`, computed after `before`.
    fn rows(&self, (start, end): (i32, i32), before: Option<&Tensor<Infer>>, dtype: Dtype) -> Result<Tensor<Infer>> {
        match self {
            Matrix::Dense(matrix) => {
                let rows = matrix.slice(0, start, end)?;
                before.map_or_else(|| Ok(rows.clone()), |before| rows.after(&[before]))?.cast(dtype)
            }
            Matrix::Packed(matrix) => {
                let rows = matrix.slice(start, end)?;
                let rows = before.map_or_else(|| Ok(rows.clone()), |before| rows.after(&[before]))?;
                decoded_matrix(&rows, dtype)
            }
        }
    }
}

/// The head's weight, used in float32: products of bfloat16 would round the logits. Stored otherwise it is converted once if
/// that is no larger than a few chunks, else in blocks of its rows, each when it is used. Codes that are multiplied as they lie
/// are not converted.
pub(super) struct Head {
    stored: Matrix,
    /// `stored`, or what it is in float32.
    weight: Matrix,
    /// Rows that are used at once: first, and one after the last.
    blocks: Vec<(i32, i32)>,
    /// Rows whose gradient is formed at once.
    gradient_blocks: Vec<(i32, i32)>,
    /// Whether products read the packed codes instead of a converted matrix.
    multiplies_codes: bool,
}

/// Chunks whose room a converted weight may take.
const CONVERTED: usize = 4;

impl Head {
    /// Creates a head whose blocks take at most `bytes` each, or hold a single row.
    pub(super) fn new(stored: Matrix, bytes: usize) -> Result<Self> {
        let [length, width] = stored.shape();
        let row_bytes = Dtype::F32.size() * width.max(1) as usize;
        let rows = (bytes / row_bytes).clamp(1, length.max(1) as usize);
        let gradient_blocks: Vec<_> =
            (0..length).step_by(rows).map(|start| (start, (start + rows as i32).min(length))).collect();
        let fits = length as usize * row_bytes <= CONVERTED * bytes;
        let multiplies_codes = match &stored {
            Matrix::Packed(matrix) if !fits => {
                multiplies_codes(cotangent::backend()?, i32::MAX, Dtype::F32, matrix, true)
            }
            _ => false,
        };
        let weight = if fits { Matrix::Dense(stored.rows((0, length), None, Dtype::F32)?) } else { stored.clone() };
        let is_float32 = matches!(&weight, Matrix::Dense(weight) if weight.dtype() == Dtype::F32);
        let blocks = if is_float32 || fits { vec![(0, length)] } else { gradient_blocks.clone() };
        Ok(Head { stored, weight, blocks, gradient_blocks, multiplies_codes })
    }

    /// Returns the head's matrix if products read its codes.
    fn codes(&self) -> Option<&Packed> {
        match &self.stored {
            Matrix::Packed(matrix) if self.multiplies_codes => Some(matrix),
            _ => None,
        }
    }

    fn block(&self, range: (i32, i32), before: Option<&Tensor<Infer>>) -> Result<Tensor<Infer>> {
        match &self.weight {
            Matrix::Dense(weight) if self.blocks.len() == 1 => weight.cast(Dtype::F32),
            weight => weight.rows(range, before, Dtype::F32),
        }
    }

    /// `rows W^T`: `[rows, V]`.
    pub(super) fn logits(&self, rows: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        if let Some(matrix) = self.codes() {
            return rows.multiply_codes(matrix, true);
        }
        let mut pieces: Vec<Tensor<Infer>> = Vec::new();
        for &range in &self.blocks {
            pieces.push(rows.linear(&self.block(range, pieces.last().or(Some(rows)))?)?);
        }
        Tensor::concatenate(&pieces.iter().collect::<Vec<_>>(), 1)
    }

    /// The dtype in which slopes and weight are multiplied for the gradient of hidden states of the dtype `hidden`.
    ///
    /// A GPU multiplies numbers of sixteen bits twice as fast as float32, sums the products in float32 all the same, and
    /// has half as much to read. Where the gradient is returned in the same sixteen bits, they are enough. Slopes are
    /// rounded before they are scaled, when they are of the order of 1.
    ///
    /// # Errors
    /// Where there is no backend.
    pub(super) fn product_dtype(&self, hidden: Dtype) -> Result<Dtype> {
        let is_stored = hidden == self.stored.dtype();
        Ok(if is_stored && cotangent::backend()? != Backend::Cpu { hidden } else { Dtype::F32 })
    }

    /// `slopes W`: `[rows, D]` in float32, for slopes in float32 or in the dtype that the weight is stored in.
    pub(super) fn hidden_gradient(&self, slopes: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        if let Some(matrix) = self.codes() {
            return slopes.cast(Dtype::F32)?.multiply_codes(matrix, false);
        }
        if let Matrix::Dense(stored) = &self.stored
            && slopes.dtype() != Dtype::F32
        {
            return slopes.matmul(stored)?.cast(Dtype::F32);
        }
        let mut sum: Option<Tensor<Infer>> = None;
        for &(start, end) in &self.blocks {
            let before = Some(sum.as_ref().unwrap_or(slopes));
            let block = match slopes.dtype() {
                Dtype::F32 => self.block((start, end), before)?,
                sixteen_bits => self.stored.rows((start, end), before, sixteen_bits)?,
            };
            let product = slopes.slice(1, start, end)?.matmul(&block)?.cast(Dtype::F32)?;
            sum = Some(match sum {
                Some(sum) => sum.add(&product)?,
                None => product,
            });
        }
        sum.ok_or_else(|| cotangent::Error::Other("a head with an empty vocabulary has no loss".into()))
    }

    /// `slopes^T rows`, block by block, added to what there is of earlier chunks.
    pub(super) fn add_weight_gradients(
        &self,
        slopes: &Tensor<Infer>,
        rows: &Tensor<Infer>,
        before: Vec<Tensor<Infer>>,
    ) -> Result<Vec<Tensor<Infer>>> {
        let mut before = before.into_iter();
        self.gradient_blocks
            .iter()
            .map(|&(start, end)| {
                let product = slopes.slice(1, start, end)?.swap_axes(0, 1)?.matmul(rows)?;
                match before.next() {
                    Some(before) => before.add(&product),
                    None => Ok(product),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_even_and_no_larger_than_allowed() {
        for (rows, most, expected, chunks) in [
            (8188, 540, 512, 16),
            (8192, 540, 512, 16),
            (7000, 540, 512, 14),
            (100, 67, 64, 2),
            (65, 64, 48, 2),
            (64, 64, 64, 1),
            (5, 540, 16, 1),
            (7, 3, 3, 3),
            (7, 1, 1, 7),
            (0, 540, 1, 0),
        ] {
            let found = rows_of_a_chunk(rows, most);
            assert_eq!(
                (found.min(rows.max(1)), rows.div_ceil(found)),
                (expected.min(rows.max(1)), chunks),
                "{rows} by {most}"
            );
            assert!(found <= most);
        }
    }
}
