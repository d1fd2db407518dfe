//! The backward pass: everything within the chunks is computed again from the states they began with.

use cotangent::{Infer, Result, Tensor};

use super::chunks::Chunks;
use super::decay::{Cotangents, Decay};
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

/// Computes the gradients from queries, keys, values, log gates and betas, from the states that
/// [`forward`](super::forward::forward) saved, and from the cotangents of `y` and of the final state.
pub(super) fn backward<D: Decay>(
    geometry: Geometry,
    inputs: [&Tensor<Infer>; 5],
    chunk_states: &Tensor<Infer>,
    [d_y, d_final_state]: [&Tensor<Infer>; 2],
) -> Result<Gradients> {
    let [queries, keys, values, log_decay, beta] = inputs;
    let chunks = Chunks::new(geometry);
    let states = &chunks.state_of_groups(chunk_states)?;
    let within = Within::<D>::new(&chunks, inputs)?;
    let decay = &within.decay;

    let errors = within.values.subtract(&decay.read(&within.keys, states)?)?;
    let deltas = within.inverse.matmul(&errors.multiply(&within.beta)?)?;
    let deltas_across = deltas.swap_axes(4, 5)?;

    let d_y = chunks.cut_copied(d_y, geometry.group())?;
    let from_state = decay.read_backward(&d_y, &within.queries, states)?;
    let d_deltas = decay.factors().query_scores.swap_axes(4, 5)?.matmul(&d_y)?;
    let chain = StateChain::run(&chunks, &within, &d_deltas, &from_state.states, d_final_state)?;

    let d_values = chain.d_solved.multiply(&within.beta)?;
    let gradients = decay.backward(&Cotangents {
        queries: &within.queries,
        keys: &within.keys,
        beta: &within.beta,
        states,
        d_query_scores: &d_y.matmul(&deltas_across)?,
        // dA = -dM' Delta^T below the diagonal.
        d_factor: &chain.d_solved.matmul(&deltas_across)?,
        by_queries: &from_state.rows,
        by_reading: &decay.read_backward(&d_values, &within.keys, states)?.rows,
        by_writing: &deltas.matmul(&chain.d_exits)?,
        d_exits: &chain.d_exits,
    })?;
    let d_beta = chain.d_solved.multiply(&errors)?.sum_keep(&[5])?.subtract(&gradients.beta)?;

    Ok(Gradients {
        queries: chunks.join(&gradients.queries, queries)?,
        keys: chunks.join(&gradients.keys, keys)?,
        values: chunks.join(&d_values, values)?,
        log_decay: chunks.join(&gradients.log_decay, log_decay)?,
        beta: chunks.join(&d_beta, beta)?,
        initial_state: chunks.state_of_heads(&chain.d_initial_state)?.squeeze(0)?,
    })
}

/// The results that need the chunks one after the other, from the last to the first.
struct StateChain {
    /// The cotangent of `Delta` carried through the transposed inverse: `[N, B, Hk, group, C, Dv]`.
    d_solved: Tensor<Infer>,
    /// The cotangents of the states that chunks end with: `[N, B, Hk, group, Dv, Dk]`.
    d_exits: Tensor<Infer>,
    /// The cotangent of the initial state: `[1, B, Hk, group, Dv, Dk]`.
    d_initial_state: Tensor<Infer>,
}

impl StateChain {
    /// Runs through the chunks from the last to the first, from the cotangents of `Delta` and of the entry states that
    /// the chunks' own outputs give.
    fn run<D: Decay>(
        chunks: &Chunks,
        within: &Within<D>,
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
                .multiply(&at(&within.decay.factors().throughout)?)?
                .add(&at(d_states_here)?)?
                .subtract(&solved.swap_axes(4, 5)?.matmul(&at(&within.reading_keys)?)?)?;
            d_exits.push(std::mem::replace(&mut d_state, d_entry));
            d_solved.push(solved);
        }
        let in_order = |tensors: Vec<Tensor<Infer>>| Tensor::concatenate(&tensors.iter().rev().collect::<Vec<_>>(), 0);
        Ok(StateChain { d_solved: in_order(d_solved)?, d_exits: in_order(d_exits)?, d_initial_state: d_state })
    }
}
