//! Products of decays between the tokens of a chunk.

use cotangent::{Infer, Result, Tensor};

use super::chunks::Chunks;
use super::constants::where_holds;

/// Tokens whose mutual decays get an exponential each; a divisor of every chunk's length.
const BLOCK: i32 = 8;

/// The decays of a chunk, from log gates; `g(a, b)` is the product of the decays of tokens a+1 to b.
///
/// An exponent is summed over just its tokens, never taken as a difference of two running sums: where gates are shut
/// those are large, and their difference would have lost its digits. No exponent is positive.
pub(super) struct Decay {
    /// From the chunk's beginning to each token, its own included: `[N, B, Hk, group, C, 1]`.
    pub(super) since_start: Tensor<Infer>,
    /// From each token to the chunk's end: `[N, B, Hk, group, C, 1]`.
    pub(super) until_end: Tensor<Infer>,
    /// Over the whole chunk: `[N, B, Hk, group, 1, 1]`.
    pub(super) throughout: Tensor<Infer>,
    /// `g(j, i)` at row i and column j <= i; above the diagonal what is finite: `[N, B, Hk, group, C, C]`.
    pub(super) between: Tensor<Infer>,
}

impl Decay {
    /// From a column of log gates, `[N, B, Hk, group, C, 1]`.
    pub(super) fn of(chunks: &Chunks, log_decay: &Tensor<Infer>) -> Result<Self> {
        let length = chunks.length;
        let blocks = length / BLOCK;
        let shaped = |rows: i32, columns: i32| {
            let mut shape = log_decay.shape()[..4].to_vec();
            shape.extend([blocks, rows, columns]);
            shape
        };
        let since_start = log_decay.cumsum(4)?.exp()?;
        let throughout = since_start.slice(4, length - 1, length)?;

        // Exponentials are what this costs on a CPU, so between blocks they are factored at the later block's beginning:
        // g(j, i) = g(j, beginning) g(beginning, i), whose factors never overflow.
        let gates = log_decay.reshape(&shaped(BLOCK, 1))?;
        let since_block = gates.cumsum(5)?.exp()?;
        let following = log_decay.slice(4, 1, length)?.pad(4, 0, 1)?.swap_axes(4, 5)?;
        let until_block = following
            .multiply(&where_holds(blocks + 1, length, |block, token| token + 1 < block * BLOCK)?)?
            .cumsum_reverse(5)?
            .exp()?;
        let until_end = until_block.slice(4, blocks, blocks + 1)?.swap_axes(4, 5)?;
        let until_block =
            until_block
                .slice(4, 0, blocks)?
                .multiply(&where_holds(blocks, length, |block, token| token < block * BLOCK)?)?;
        let across = since_block.multiply(&until_block.reshape(&shaped(1, length))?)?;

        let in_block = gates.multiply(&where_holds(BLOCK, BLOCK, |row, column| column < row)?)?.cumsum(5)?.exp()?;
        // A product with zeros and ones puts the blocks in their place, at once for all.
        let places = where_holds(length, length, |row, column| row == column)?.reshape(&[blocks, BLOCK, length])?;
        let between = in_block.matmul(&places)?.add(&across)?;
        let mut square = log_decay.shape()[..4].to_vec();
        square.extend([length, length]);
        Ok(Decay { since_start, until_end, throughout, between: between.reshape(&square)? })
    }
}
