//! A gate for each head: products of decays between the tokens of a chunk.

use cotangent::{Infer, Result, Tensor};

use super::chunks::Chunks;
use super::constants::where_holds;
use super::decay::{Cotangents, Decay, DecayGradients, Factors, ReadCotangents, sum_group};
use crate::delta_rule::geometry::Gates;

/// Tokens whose mutual decays get an exponential each; a divisor of every chunk's length.
const BLOCK: i32 = 8;

/// The decays of heads; they scale scores that a key head's value heads share.
///
/// An exponent is summed over just its tokens, never taken as a difference of two running sums. Where gates are shut
/// such sums are large, and their difference would have lost its digits. No exponent is positive.
pub(super) struct HeadDecay {
    factors: Factors,
    /// `g(j, i)` at row i and column j <= i; above the diagonal what is finite: `[N, B, Hk, group, C, C]`.
    between: Tensor<Infer>,
    /// `k_i . k_j`: `[N, B, Hk, 1, C, C]`.
    key_products: Tensor<Infer>,
    /// One on and below the diagonal, zero above: `[C, C]`.
    lower: Tensor<Infer>,
    /// One below the diagonal, else zero: `[C, C]`.
    strictly_lower: Tensor<Infer>,
}

impl Decay for HeadDecay {
    const GATES: Gates = Gates::OfHeads;

    fn new(chunks: &Chunks, queries: &Tensor<Infer>, keys: &Tensor<Infer>, log_decay: &Tensor<Infer>) -> Result<Self> {
        let length = chunks.length;
        let lower = where_holds(length, length, |row, column| column <= row)?;
        let strictly_lower = where_holds(length, length, |row, column| column < row)?;
        let keys_across = keys.swap_axes(4, 5)?;
        let query_products = queries.matmul(&keys_across)?.multiply(&lower)?;
        let key_products = keys.matmul(&keys_across)?;

        let blocks = length / BLOCK;
        let shaped = |rows: i32, columns: i32| {
            let mut shape = log_decay.shape()[..4].to_vec();
            shape.extend([blocks, rows, columns]);
            shape
        };
        let since_start = log_decay.cumsum(4)?.exp()?;
        let throughout = since_start.slice(4, length - 1, length)?;

        // Exponentials are the cost of this on a CPU, so decays between blocks are factored at the beginning of the
        // later block: g(j, i) = g(j, beginning) g(beginning, i). Neither factor can overflow.
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
        // A product with zeros and ones moves all blocks to their places at once.
        let places = where_holds(length, length, |row, column| row == column)?.reshape(&[blocks, BLOCK, length])?;
        let between = in_block.matmul(&places)?.add(&across)?;
        let mut square = log_decay.shape()[..4].to_vec();
        square.extend([length, length]);
        let between = between.reshape(&square)?;
        let query_scores = between.multiply(&query_products)?;
        let key_scores = between.multiply(&key_products)?;
        Ok(HeadDecay {
            factors: Factors { since_start, until_end, throughout, query_scores, key_scores },
            between,
            key_products,
            lower,
            strictly_lower,
        })
    }

    fn factors(&self) -> &Factors {
        &self.factors
    }

    fn read(&self, rows: &Tensor<Infer>, states: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        rows.matmul(&states.swap_axes(4, 5)?)?.multiply(&self.factors.since_start)
    }

    fn read_backward(
        &self,
        d_read: &Tensor<Infer>,
        rows: &Tensor<Infer>,
        states: &Tensor<Infer>,
    ) -> Result<ReadCotangents> {
        let decayed = d_read.multiply(&self.factors.since_start)?;
        Ok(ReadCotangents { rows: decayed.matmul(states)?, states: decayed.swap_axes(4, 5)?.matmul(rows)? })
    }

    fn backward(&self, cotangents: &Cotangents) -> Result<DecayGradients> {
        let &Cotangents { queries, keys, beta, states, d_query_scores, d_exits, .. } = cotangents;
        let &Cotangents { by_queries, by_reading, by_writing, .. } = cotangents;
        let HeadDecay { between, strictly_lower, factors, .. } = self;
        let until_end = &factors.until_end;

        let d_factor = cotangents.d_factor.multiply(between)?;
        let d_factor_scores = d_factor.multiply(&self.key_products.multiply(strictly_lower)?)?;
        let d_query_products = sum_group(&d_query_scores.multiply(between)?)?.multiply(&self.lower)?;
        let d_key_products = sum_group(&d_factor.multiply(beta)?)?.multiply(strictly_lower)?;

        let d_queries = sum_group(by_queries)?.add(&d_query_products.matmul(keys)?)?;
        let d_keys = sum_group(&by_writing.multiply(until_end)?.subtract(by_reading)?)?
            .add(&d_query_products.swap_axes(4, 5)?.matmul(queries)?)?
            .subtract(&d_key_products.add(&d_key_products.swap_axes(4, 5)?)?.matmul(keys)?)?;

        // The cotangent of each factor g(a, b) is added to the gates a+1..b without differences of running sums, so
        // that a gradient of shut gates is as small as the decay.
        let d_between = d_query_scores.multiply(&factors.query_scores)?.subtract(&d_factor_scores.multiply(beta)?)?;
        let d_since_start =
            by_queries.multiply(queries)?.sum_keep(&[5])?.subtract(&by_reading.multiply(keys)?.sum_keep(&[5])?)?;
        let d_until_end = by_writing.multiply(keys)?.sum_keep(&[5])?.multiply(until_end)?;
        let d_throughout = d_exits.multiply(states)?.sum_keep(&[4, 5])?.multiply(&factors.throughout)?;
        let d_log_decay = d_between
            .cumsum_reverse(4)?
            .multiply(strictly_lower)?
            .sum_keep(&[5])?
            .add(&d_since_start.cumsum_reverse(4)?)?
            .add(&strictly_lower.matmul(&d_until_end)?)?
            .add(&d_throughout)?;
        Ok(DecayGradients {
            queries: d_queries,
            keys: d_keys,
            log_decay: d_log_decay,
            beta: d_factor_scores.sum_keep(&[5])?,
        })
    }
}
