//! The forward pass, chunk by chunk.

use cotangent::{Infer, Result, Tensor};

use super::chunks::Chunks;
use super::decay::Decay;
use super::within::Within;
use crate::delta_rule::geometry::Geometry;
use crate::delta_rule::sequential::run_steps;

/// The results of the forward pass.
pub(super) struct Forward {
    /// `[B, T, Hv, Dv]`.
    pub(super) y: Tensor<Infer>,
    /// `[B, Hv, Dv, Dk]`.
    pub(super) final_state: Tensor<Infer>,
    /// The states that chunks begin with, `[N, B, Hv, Dv, Dk]`: all that the backward pass needs beside the inputs.
    pub(super) chunk_states: Tensor<Infer>,
}

/// Computes the outputs from queries, keys, values, log gates, betas and the initial state.
pub(super) fn forward<D: Decay>(geometry: Geometry, inputs: [&Tensor<Infer>; 6]) -> Result<Forward> {
    let [queries, keys, values, log_decay, beta, initial_state] = inputs;
    if geometry.time == 1 {
        // A chunk of one generated token would be mostly padding.
        let (y, final_state) = run_steps(inputs, D::GATES)?;
        return Ok(Forward { y, final_state, chunk_states: initial_state.expand_dims(0)? });
    }
    let chunks = Chunks::new(geometry);
    let within = Within::<D>::new(&chunks, [queries, keys, values, log_decay, beta])?;
    let weighted_values = within.values.multiply(&within.beta)?;

    let mut state = chunks.state_of_groups(initial_state)?;
    let mut states = Vec::new();
    let mut deltas = Vec::new();
    for chunk in 0..chunks.count {
        let at = |tensor: &Tensor<Infer>| tensor.slice(0, chunk, chunk + 1);
        // What is written is the values less what the state already answers; each token sees those before it.
        let read = at(&within.reading_keys)?.matmul(&state.swap_axes(4, 5)?)?;
        let delta = at(&within.inverse)?.matmul(&at(&weighted_values)?.subtract(&read)?)?;
        let written = delta.swap_axes(4, 5)?.matmul(&at(&within.writing_keys)?)?;
        let next = state.multiply(&at(&within.decay.factors().throughout)?)?.add(&written)?;
        states.push(std::mem::replace(&mut state, next));
        deltas.push(delta);
    }
    let states = Tensor::concatenate(&states.iter().collect::<Vec<_>>(), 0)?;
    let deltas = Tensor::concatenate(&deltas.iter().collect::<Vec<_>>(), 0)?;

    let from_state = within.decay.read(&within.queries, &states)?;
    let from_chunk = within.decay.factors().query_scores.matmul(&deltas)?;
    Ok(Forward {
        y: chunks.join(&from_state.add(&from_chunk)?, values)?,
        final_state: chunks.state_of_heads(&state)?.squeeze(0)?,
        chunk_states: chunks.state_of_heads(&states)?,
    })
}
