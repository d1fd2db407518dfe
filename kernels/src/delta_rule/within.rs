//! What every chunk computes without knowing the state it starts from.

use cotangent::{Constant, Infer, Result, Tensor};

use super::chunks::Chunks;
use super::inverse::unit_lower_inverse;

/// Chunk-local quantities, with rows as tokens; names and formulas as in Yang et al. 2024 ("Gated Delta Networks",
/// section 3.3), `g(a, b)` being the product of the decays of tokens a+1 to b.
///
/// Shapes: columns are `[N, B, Hk, group, C, 1]`; matrices of key heads have a group of 1.
pub(super) struct Within {
    /// `[N, B, Hk, 1, C, Dk]`.
    pub(super) queries: Tensor<Infer>,
    /// `[N, B, Hk, 1, C, Dk]`.
    pub(super) keys: Tensor<Infer>,
    /// `[N, B, Hk, group, C, Dv]`.
    pub(super) values: Tensor<Infer>,
    /// A column.
    pub(super) beta: Tensor<Infer>,
    /// The decay from the chunk's beginning to each token, its own included: a column.
    pub(super) since_start: Tensor<Infer>,
    /// The decay from each token to the chunk's end: a column.
    pub(super) until_end: Tensor<Infer>,
    /// The decay over the whole chunk: `[N, B, Hk, group, 1, 1]`.
    pub(super) throughout: Tensor<Infer>,
    /// `g(j, i)` at row i and column j; ones above the diagonal: `[N, B, Hk, group, C, C]`.
    pub(super) decay: Tensor<Infer>,
    /// `q_i . k_j` for j <= i, else 0: `[N, B, Hk, 1, C, C]`.
    pub(super) query_scores: Tensor<Infer>,
    /// `k_i . k_j`: `[N, B, Hk, 1, C, C]`.
    pub(super) key_scores: Tensor<Infer>,
    /// `(I + A)^-1` with `A_ij = beta_i g(j, i) k_i . k_j` for j < i: `[N, B, Hk, group, C, C]`.
    pub(super) inverse: Tensor<Infer>,
    /// Keys by beta and the decay since the start, as they read the entry state: `[N, B, Hk, group, C, Dk]`.
    pub(super) reading_keys: Tensor<Infer>,
    /// Keys by the decay until the end, as they are written to the exit state: `[N, B, Hk, group, C, Dk]`.
    pub(super) writing_keys: Tensor<Infer>,
    /// One on and below the diagonal, zero above: `[C, C]`.
    pub(super) lower: Tensor<Infer>,
    /// One below the diagonal, else zero: `[C, C]`.
    pub(super) strictly_lower: Tensor<Infer>,
}

impl Within {
    /// From queries, keys, values, log gates and betas as the caller gave them.
    pub(super) fn of(chunks: &Chunks, inputs: [&Tensor<Infer>; 5]) -> Result<Self> {
        let [queries, keys, values, log_decay, beta] = inputs;
        let group = chunks.geometry.group();
        let length = chunks.length;
        let lower = triangle(length, 0)?;
        let strictly_lower = triangle(length, -1)?;

        // One product gives both kinds of scores; joining also makes the rows contiguous, as products want them.
        let both = Tensor::concatenate(&[&chunks.cut(queries, 1)?, &chunks.cut(keys, 1)?], 4)?;
        let queries = both.slice(4, 0, length)?;
        let keys = both.slice(4, length, 2 * length)?;
        let scores = both.matmul(&keys.swap_axes(4, 5)?)?;
        let query_scores = scores.slice(4, 0, length)?.multiply(&lower)?;
        let key_scores = scores.slice(4, length, 2 * length)?;

        // The exponent of g(j, i) is summed from j on, never taken as a difference of two running sums: where gates
        // are shut those are large, and their difference would have lost its digits. No exponent is positive.
        let log_decay = chunks.cut(log_decay, group)?;
        let decay = log_decay.multiply(&strictly_lower)?.cumsum(4)?.exp()?;
        let since_start = log_decay.cumsum(4)?.exp()?;
        let throughout = since_start.slice(4, length - 1, length)?;
        let until_end = decay.slice(4, length - 1, length)?.swap_axes(4, 5)?;

        let beta = chunks.cut(beta, group)?;
        let inverse = unit_lower_inverse(&decay.multiply(&key_scores)?.multiply(&beta.negative()?)?)?;
        let reading_keys = keys.multiply(&beta.multiply(&since_start)?)?;
        let writing_keys = keys.multiply(&until_end)?;
        Ok(Within {
            queries,
            keys,
            values: chunks.cut(values, group)?,
            beta,
            since_start,
            until_end,
            throughout,
            decay,
            query_scores,
            key_scores,
            inverse,
            reading_keys,
            writing_keys,
            lower,
            strictly_lower,
        })
    }
}

/// Ones at `column <= row + offset`, zeros elsewhere: `[size, size]`.
fn triangle(size: i32, offset: i32) -> Result<Tensor<Infer>> {
    let values: Vec<f32> =
        (0..size).flat_map(|row| (0..size).map(move |column| if column <= row + offset { 1.0 } else { 0.0 })).collect();
    Ok(Constant::from_slice(&values, &[size, size])?.to_tensor())
}
