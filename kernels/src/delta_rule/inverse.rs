//! The inverse of unit lower triangular matrices.

use cotangent::{Constant, Infer, Result, Tensor};

/// Up to this size rows are substituted one by one; larger inverses are put together from these by matrix products.
pub(super) const BLOCK: i32 = 8;

/// `(I - L)^-1` where L is what `[.., C, C]` holds below the diagonal; the rest is never read. C is `BLOCK` times a
/// power of two.
///
/// Forward substitution, in blocks: with similar keys the powers of L grow beyond float32 before they cancel, so the
/// product `(I + L)(I + L^2)(I + L^4)..` is no alternative.
pub(super) fn unit_lower_inverse(matrices: &Tensor<Infer>) -> Result<Tensor<Infer>> {
    let size = matrices.dimension(-1);
    let count = matrices.size() as i32 / (size * size);
    let flat = matrices.reshape(&[count, size, size])?;
    let blocks = diagonal_inverses(&flat, size)?;
    inverse_of(&flat, &blocks, 0, size)?.reshape(matrices.shape())
}

/// Rows and columns `start..start + size` of the inverse: `[[P, 0], [Q L21 P, Q]]` from its halves P and Q.
fn inverse_of(matrices: &Tensor<Infer>, blocks: &[Tensor<Infer>], start: i32, size: i32) -> Result<Tensor<Infer>> {
    if size == BLOCK {
        return Ok(blocks[(start / BLOCK) as usize].clone());
    }
    let half = size / 2;
    let middle = start + half;
    let first = inverse_of(matrices, blocks, start, half)?;
    let second = inverse_of(matrices, blocks, middle, half)?;
    let below = matrices.slice(1, middle, middle + half)?.slice(2, start, middle)?;
    let corner = second.matmul(&below.matmul(&first)?)?;
    Tensor::concatenate(&[&first.pad(2, 0, half)?, &Tensor::concatenate(&[&corner, &second], 2)?], 1)
}

/// The inverses of the blocks on the diagonal, each `[count, BLOCK, BLOCK]`.
///
/// The matrices are the last axis meanwhile: a row operation is then one long vector operation.
fn diagonal_inverses(matrices: &Tensor<Infer>, size: i32) -> Result<Vec<Tensor<Infer>>> {
    let count = matrices.dimension(0);
    let starts = (0..size).step_by(BLOCK as usize);
    let blocks = starts
        .map(|start| {
            let rows = matrices.slice(1, start, start + BLOCK)?;
            rows.slice(2, start, start + BLOCK)?.transpose(&[1, 2, 0])
        })
        .collect::<Result<Vec<_>>>()?;
    let lower = Tensor::concatenate(&blocks.iter().collect::<Vec<_>>(), 2)?;
    let width = lower.dimension(2);

    let mut rows: Vec<Tensor<Infer>> = Vec::new();
    for row in 0..BLOCK {
        let unit: Vec<f32> = (0..BLOCK).map(|column| if column == row { 1.0 } else { 0.0 }).collect();
        let unit = Constant::from_slice(&unit, &[1, BLOCK, 1])?;
        if row == 0 {
            rows.push(unit.to_tensor().broadcast_to(&[1, BLOCK, width])?);
            continue;
        }
        let weights = lower.slice(0, row, row + 1)?.slice(1, 0, row)?.reshape(&[row, 1, width])?;
        let above = Tensor::concatenate(&rows.iter().collect::<Vec<_>>(), 0)?;
        rows.push(weights.multiply(&above)?.sum_keep(&[0])?.add(&unit)?);
    }
    let inverses = Tensor::concatenate(&rows.iter().collect::<Vec<_>>(), 0)?.transpose(&[2, 0, 1])?;
    (0..size / BLOCK).map(|block| inverses.slice(0, block * count, (block + 1) * count)).collect()
}
