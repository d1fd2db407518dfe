//! The inverse of unit lower triangular matrices.

use cotangent::{Infer, Result, Tensor};

use super::constants::where_holds;

/// Up to this size inverses are products of powers; larger ones are put together from these by substitution. With equal
/// keys, which text is full of, blocks of 8 would lose another digit.
const BLOCK: i32 = 4;

/// `(I - L)^-1` where L is what `[.., C, C]` holds below the diagonal; the rest is never read. C is `BLOCK` times a
/// power of two.
///
/// Forward substitution in blocks. Over a whole chunk of similar keys the powers of L grow beyond float32 before they
/// cancel: products of powers are for small blocks only.
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

/// The inverses of the blocks on the diagonal, each `[count, BLOCK, BLOCK]`:
/// `(I - L)^-1 = (I + L)(I + L^2)`, since `L^4 = 0`.
fn diagonal_inverses(matrices: &Tensor<Infer>, size: i32) -> Result<Vec<Tensor<Infer>>> {
    let starts = (0..size).step_by(BLOCK as usize);
    let blocks = starts
        .map(|start| matrices.slice(1, start, start + BLOCK)?.slice(2, start, start + BLOCK))
        .collect::<Result<Vec<_>>>()?;
    // Blocks first, so that each is contiguous again in the end.
    let blocks = Tensor::stack(&blocks.iter().collect::<Vec<_>>(), 0)?;
    let lower = blocks.multiply(&where_holds(BLOCK, BLOCK, |row, column| column < row)?)?;
    let first_two = lower.add(&where_holds(BLOCK, BLOCK, |row, column| column == row)?)?;
    let inverses = first_two.add(&first_two.matmul(&lower.matmul(&lower)?)?)?;
    (0..size / BLOCK).map(|block| inverses.slice(0, block, block + 1)?.squeeze(0)).collect()
}
