//! What every chunk computes without knowing the state it starts from.

use cotangent::{Infer, Result, Tensor};

use super::chunks::Chunks;
use super::constants::where_holds;
use super::decay::Decay;
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
    pub(super) decay: Decay,
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
        let lower = where_holds(length, length, |row, column| column <= row)?;
        let strictly_lower = where_holds(length, length, |row, column| column < row)?;

        let queries = chunks.cut_copied(queries, 1)?;
        let keys = chunks.cut_copied(keys, 1)?;
        let keys_across = keys.swap_axes(4, 5)?;
        let query_scores = queries.matmul(&keys_across)?.multiply(&lower)?;
        let key_scores = keys.matmul(&keys_across)?;

        let decay = Decay::of(chunks, &chunks.cut(log_decay, group)?)?;
        let beta = chunks.cut(beta, group)?;
        let inverse = unit_lower_inverse(&decay.between.multiply(&key_scores)?.multiply(&beta.negative()?)?)?;
        let reading_keys = keys.multiply(&beta.multiply(&decay.since_start)?)?;
        let writing_keys = keys.multiply(&decay.until_end)?;
        Ok(Within {
            queries,
            keys,
            values: chunks.cut(values, group)?,
            beta,
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
