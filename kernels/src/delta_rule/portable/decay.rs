//! The effect of the decays of a chunk on its tokens, for gates of heads and of channels.

use cotangent::{Infer, Result, Tensor};

use super::chunks::Chunks;
use crate::delta_rule::geometry::Gates;

/// The decays of a chunk, from log gates; `g(a, b)` is the product of the decays of tokens a+1 to b.
///
/// A gate of a head, `[N, B, Hk, group, C, 1]`, is a number that commutes with every matrix product. A gate of a
/// channel of keys, `[N, B, Hk, group, C, Dk]`, is a factor of each term of a product. W is 1 or Dk.
pub(super) trait Decay: Sized {
    /// The part of the model that has the gates.
    const GATES: Gates;

    /// Computes decays and scores from queries and keys, `[N, B, Hk, 1, C, Dk]`, and log gates, `[N, B, Hk, group, C,
    /// W]`.
    fn new(chunks: &Chunks, queries: &Tensor<Infer>, keys: &Tensor<Infer>, log_decay: &Tensor<Infer>) -> Result<Self>;

    /// Returns the decays and scores, which both kinds of gates have.
    fn factors(&self) -> &Factors;

    /// Returns what queries or keys read from the state that their chunk begins with: `[N, B, Hk, group, C, Dv]`.
    fn read(&self, rows: &Tensor<Infer>, states: &Tensor<Infer>) -> Result<Tensor<Infer>>;

    /// The cotangents of what [`read`](Self::read) took, from that of what it gave.
    fn read_backward(
        &self,
        d_read: &Tensor<Infer>,
        rows: &Tensor<Infer>,
        states: &Tensor<Infer>,
    ) -> Result<ReadCotangents>;

    /// Returns the gradients of queries, keys and gates through scores, reading, writing and forgetting.
    fn backward(&self, cotangents: &Cotangents) -> Result<DecayGradients>;
}

/// The decays of a chunk, and the scores that have them in them.
pub(super) struct Factors {
    /// The decays from the chunk's beginning to each token, the token included: `[N, B, Hk, group, C, W]`.
    pub(super) since_start: Tensor<Infer>,
    /// The decays from each token to the chunk's end: `[N, B, Hk, group, C, W]`.
    pub(super) until_end: Tensor<Infer>,
    /// The decay over the whole chunk: `[N, B, Hk, group, 1, W]`.
    pub(super) throughout: Tensor<Infer>,
    /// `q_i . g(j, i) k_j` for j <= i, else 0: `[N, B, Hk, group, C, C]`.
    pub(super) query_scores: Tensor<Infer>,
    /// `k_i . g(j, i) k_j` for j < i; elsewhere what is finite: `[N, B, Hk, group, C, C]`.
    pub(super) key_scores: Tensor<Infer>,
}

/// Cotangents of rows, `[N, B, Hk, group, C, Dk]`, and of states, `[N, B, Hk, group, Dv, Dk]`.
pub(super) struct ReadCotangents {
    pub(super) rows: Tensor<Infer>,
    pub(super) states: Tensor<Infer>,
}

/// The values and cotangents that [`Decay::backward`] starts from.
pub(super) struct Cotangents<'a> {
    pub(super) queries: &'a Tensor<Infer>,
    pub(super) keys: &'a Tensor<Infer>,
    /// The betas, as a column.
    pub(super) beta: &'a Tensor<Infer>,
    /// The states that chunks begin with: `[N, B, Hk, group, Dv, Dk]`.
    pub(super) states: &'a Tensor<Infer>,
    /// The cotangent of the queries' scores; the values above the diagonal must not matter: `[N, B, Hk, group, C, C]`.
    pub(super) d_query_scores: &'a Tensor<Infer>,
    /// The negated cotangent of `A_ij = beta_i X_ij` with X the keys' scores; the values above the diagonal must not
    /// matter.
    pub(super) d_factor: &'a Tensor<Infer>,
    /// The cotangent of queries from what they read of the state: `[N, B, Hk, group, C, Dk]`.
    pub(super) by_queries: &'a Tensor<Infer>,
    /// The negated cotangent of keys from what they read of the state: `[N, B, Hk, group, C, Dk]`.
    pub(super) by_reading: &'a Tensor<Infer>,
    /// The cotangent of keys as they are written to the next state, not yet decayed: `[N, B, Hk, group, C, Dk]`.
    pub(super) by_writing: &'a Tensor<Infer>,
    /// The cotangent of the states that chunks end with: `[N, B, Hk, group, Dv, Dk]`.
    pub(super) d_exits: &'a Tensor<Infer>,
}

/// The gradients that [`Decay::backward`] returns.
pub(super) struct DecayGradients {
    /// `[N, B, Hk, 1, C, Dk]`.
    pub(super) queries: Tensor<Infer>,
    /// `[N, B, Hk, 1, C, Dk]`.
    pub(super) keys: Tensor<Infer>,
    /// `[N, B, Hk, group, C, W]`.
    pub(super) log_decay: Tensor<Infer>,
    /// The part that the factor of the inverse takes from the gradient of betas: a column.
    pub(super) beta: Tensor<Infer>,
}

/// The sum over the value heads of a key head.
pub(super) fn sum_group(tensor: &Tensor<Infer>) -> Result<Tensor<Infer>> {
    if tensor.dimension(3) == 1 { Ok(tensor.clone()) } else { tensor.sum_keep(&[3]) }
}
