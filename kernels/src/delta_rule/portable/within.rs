//! The part of every chunk that does not depend on the state that it starts from.

use cotangent::{Infer, Result, Tensor};

use super::chunks::Chunks;
use super::decay::Decay;
use super::inverse::unit_lower_inverse;

/// Chunk-local quantities, with rows as tokens; names and formulas as in Yang et al. 2024 ("Gated Delta Networks",
/// section 3.3), `g(a, b)` being the product of the decays of tokens a+1 to b.
///
/// Shapes: columns are `[N, B, Hk, group, C, 1]`; matrices of key heads have a group of 1.
pub(super) struct Within<D> {
    /// `[N, B, Hk, 1, C, Dk]`.
    pub(super) queries: Tensor<Infer>,
    /// `[N, B, Hk, 1, C, Dk]`.
    pub(super) keys: Tensor<Infer>,
    /// `[N, B, Hk, group, C, Dv]`.
    pub(super) values: Tensor<Infer>,
    /// A column.
    pub(super) beta: Tensor<Infer>,
    pub(super) decay: D,
    /// `(I + A)^-1` with `A_ij = beta_i k_i . g(j, i) k_j` for j < i: `[N, B, Hk, group, C, C]`.
    pub(super) inverse: Tensor<Infer>,
    /// Keys by beta and the decay since the start, as they read the entry state: `[N, B, Hk, group, C, Dk]`.
    pub(super) reading_keys: Tensor<Infer>,
    /// Keys by the decay until the end, as they are written to the exit state: `[N, B, Hk, group, C, Dk]`.
    pub(super) writing_keys: Tensor<Infer>,
}

impl<D: Decay> Within<D> {
    /// Computes the chunks' own part from queries, keys, values, log gates and betas as the caller gave them.
    pub(super) fn new(chunks: &Chunks, inputs: [&Tensor<Infer>; 5]) -> Result<Self> {
        let [queries, keys, values, log_decay, beta] = inputs;
        let group = chunks.geometry.group();
        let queries = chunks.cut_copied(queries, 1)?;
        let keys = chunks.cut_copied(keys, 1)?;
        let decay = D::new(chunks, &queries, &keys, &chunks.cut(log_decay, group)?)?;
        let beta = chunks.cut(beta, group)?;
        let factors = decay.factors();
        let inverse = unit_lower_inverse(&factors.key_scores.multiply(&beta.negative()?)?)?;
        let reading_keys = keys.multiply(&beta.multiply(&factors.since_start)?)?;
        let writing_keys = keys.multiply(&factors.until_end)?;
        let values = chunks.cut(values, group)?;
        Ok(Within { queries, keys, values, beta, decay, inverse, reading_keys, writing_keys })
    }
}
