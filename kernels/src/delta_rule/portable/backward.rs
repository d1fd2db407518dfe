//! The backward pass: everything within the chunks is computed again from the states they began with.

use cotangent::{Infer, Result, Tensor};

use super::chunks::Chunks;
use super::decay::Decay;
use super::within::Within;
use crate::delta_rule::geometry::Geometry;

/// One gradient for each input, in its shape and dtype.
pub(super) struct Gradients {
    pub(super) queries: Tensor<Infer>,
    pub(super) keys: Tensor<Infer>,
    pub(super) values: Tensor<Infer>,
    pub(super) log_decay: Tensor<Infer>,
    pub(super) beta: Tensor<Infer>,
    pub(super) initial_state: Tensor<Infer>,
}

/// From queries, keys, values, log gates and betas, the states that [`forward`](super::forward::forward) saved, and the
/// cotangents of `y` and the final state.
pub(super) fn backward(
    geometry: Geometry,
    inputs: [&Tensor<Infer>; 5],
    chunk_states: &Tensor<Infer>,
    [d_y, d_final_state]: [&Tensor<Infer>; 2],
) -> Result<Gradients> {
    let [queries, keys, values, log_decay, beta] = inputs;
    let chunks = Chunks::of(geometry);
    let states = &chunks.state_of_groups(chunk_states)?;
    let within = Within::of(&chunks, inputs)?;
    let Within { lower, strictly_lower, .. } = &within;
    let Decay { since_start, until_end, between, .. } = &within.decay;

    let errors = within.values.subtract(&within.keys.matmul(&states.swap_axes(4, 5)?)?.multiply(since_start)?)?;
    let deltas = within.inverse.matmul(&errors.multiply(&within.beta)?)?;
    let deltas_across = deltas.swap_axes(4, 5)?;

    let d_y = chunks.cut_copied(d_y, geometry.group())?;
    let decayed_d_y = d_y.multiply(since_start)?;
    let scores = between.multiply(&within.query_scores)?;
    let d_scores = d_y.matmul(&deltas_across)?;
    let d_deltas = scores.swap_axes(4, 5)?.matmul(&d_y)?;
    let d_states_here = decayed_d_y.swap_axes(4, 5)?.matmul(&within.queries)?;
    let chain = StateChain::run(&chunks, &within, &d_deltas, &d_states_here, d_final_state)?;

    let d_values = chain.d_solved.multiply(&within.beta)?;
    let by_queries = decayed_d_y.matmul(states)?;
    let by_reading = d_values.multiply(since_start)?.matmul(states)?;
    let by_writing = deltas.matmul(&chain.d_exits)?;

    // The factor of the inverse: dA = -dM' Delta^T below the diagonal. Its sign is taken where it is used.
    let d_factor = chain.d_solved.matmul(&deltas_across)?.multiply(between)?;
    let d_factor_scores = d_factor.multiply(&within.key_scores.multiply(strictly_lower)?)?;
    let d_query_scores = sum_group(&d_scores.multiply(between)?)?.multiply(lower)?;
    let d_key_scores = sum_group(&d_factor.multiply(&within.beta)?)?.multiply(strictly_lower)?;

    let d_queries = sum_group(&by_queries)?.add(&d_query_scores.matmul(&within.keys)?)?;
    let d_keys = sum_group(&by_writing.multiply(until_end)?.subtract(&by_reading)?)?
        .add(&d_query_scores.swap_axes(4, 5)?.matmul(&within.queries)?)?
        .subtract(&d_key_scores.add(&d_key_scores.swap_axes(4, 5)?)?.matmul(&within.keys)?)?;
    let d_beta = chain.d_solved.multiply(&errors)?.sum_keep(&[5])?.subtract(&d_factor_scores.sum_keep(&[5])?)?;

    // Every factor g(a, b) passes its cotangent on to the gates a+1..b, summed without differences of running sums:
    // where gates are shut the gradient is as small as the decay.
    let d_decay = d_scores.multiply(&scores)?.subtract(&d_factor_scores.multiply(&within.beta)?)?;
    let d_since_start = by_queries
        .multiply(&within.queries)?
        .sum_keep(&[5])?
        .subtract(&by_reading.multiply(&within.keys)?.sum_keep(&[5])?)?;
    let d_until_end = by_writing.multiply(&within.keys)?.sum_keep(&[5])?.multiply(until_end)?;
    let d_throughout = chain.d_exits.multiply(states)?.sum_keep(&[4, 5])?.multiply(&within.decay.throughout)?;
    let d_log_decay = d_decay
        .cumsum_reverse(4)?
        .multiply(strictly_lower)?
        .sum_keep(&[5])?
        .add(&d_since_start.cumsum_reverse(4)?)?
        .add(&strictly_lower.matmul(&d_until_end)?)?
        .add(&d_throughout)?;

    Ok(Gradients {
        queries: chunks.join(&d_queries, queries)?,
        keys: chunks.join(&d_keys, keys)?,
        values: chunks.join(&d_values, values)?,
        log_decay: chunks.join(&d_log_decay, log_decay)?,
        beta: chunks.join(&d_beta, beta)?,
        initial_state: chunks.state_of_heads(&chain.d_initial_state)?.squeeze(0)?,
    })
}

/// The sum over the value heads of a key head.
fn sum_group(tensor: &Tensor<Infer>) -> Result<Tensor<Infer>> {
    if tensor.dimension(3) == 1 { Ok(tensor.clone()) } else { tensor.sum_keep(&[3]) }
}

/// What only goes chunk after chunk, from the last to the first.
struct StateChain {
    /// The cotangent of `Delta` carried through the transposed inverse: `[N, B, Hk, group, C, Dv]`.
    d_solved: Tensor<Infer>,
    /// The cotangents of the states that chunks end with: `[N, B, Hk, group, Dv, Dk]`.
    d_exits: Tensor<Infer>,
    /// The cotangent of the initial state: `[1, B, Hk, group, Dv, Dk]`.
    d_initial_state: Tensor<Infer>,
}

impl StateChain {
    /// From the cotangents of `Delta` and of the entry states that the chunks' own outputs give.
    fn run(
        chunks: &Chunks,
        within: &Within,
        d_deltas: &Tensor<Infer>,
        d_states_here: &Tensor<Infer>,
        d_final_state: &Tensor<Infer>,
    ) -> Result<Self> {
        let mut d_state = chunks.state_of_groups(d_final_state)?;
        let mut d_solved = Vec::new();
        let mut d_exits = Vec::new();
        for chunk in (0..chunks.count).rev() {
            let at = |tensor: &Tensor<Infer>| tensor.slice(0, chunk, chunk + 1);
            let d_delta = at(&within.writing_keys)?.matmul(&d_state.swap_axes(4, 5)?)?.add(&at(d_deltas)?)?;
            let solved = at(&within.inverse)?.swap_axes(4, 5)?.matmul(&d_delta)?;
            let d_entry = d_state
                .multiply(&at(&within.decay.throughout)?)?
                .add(&at(d_states_here)?)?
                .subtract(&solved.swap_axes(4, 5)?.matmul(&at(&within.reading_keys)?)?)?;
            d_exits.push(std::mem::replace(&mut d_state, d_entry));
            d_solved.push(solved);
        }
        let in_order = |tensors: Vec<Tensor<Infer>>| Tensor::concatenate(&tensors.iter().rev().collect::<Vec<_>>(), 0);
        Ok(StateChain { d_solved: in_order(d_solved)?, d_exits: in_order(d_exits)?, d_initial_state: d_state })
    }
}
