//! The recurrence by its definition, in differentiable operations: slow, and easy to verify.

use cotangent::{Dtype, Graph, Indices, Result, Tensor};

use super::step::{GatedDeltaByChannelStepInputs, GatedDeltaStepInputs, GatedDeltaStepOutputs};
use crate::delta_rule::geometry::{Gates, Geometry};
use crate::delta_rule::{GatedDeltaByChannelOutputs, GatedDeltaOutputs};

/// [`gated_delta`](fn@crate::gated_delta) token by token, in differentiable operations: of any number of tokens, from `state`.
///
/// # Errors
/// As [`gated_delta`](fn@crate::gated_delta).
pub fn gated_delta_steps<M: Graph>(inputs: GatedDeltaStepInputs<'_, M>) -> Result<GatedDeltaOutputs<M>> {
    let GatedDeltaStepInputs { queries, keys, values, log_decay, beta, state } = inputs;
    let (y, final_state) = run_steps([queries, keys, values, log_decay, beta, state], Gates::OfHeads)?;
    Ok(GatedDeltaOutputs { y, final_state })
}

/// [`gated_delta_by_channel`](fn@crate::gated_delta_by_channel) token by token, in differentiable operations: of any number of
/// tokens, from `state`.
///
/// # Errors
/// As [`gated_delta_by_channel`](fn@crate::gated_delta_by_channel).
pub fn gated_delta_by_channel_steps<M: Graph>(
    inputs: GatedDeltaByChannelStepInputs<'_, M>,
) -> Result<GatedDeltaByChannelOutputs<M>> {
    let GatedDeltaByChannelStepInputs { queries, keys, values, log_decay, beta, state } = inputs;
    let (y, final_state) = run_steps([queries, keys, values, log_decay, beta, state], Gates::OfChannels)?;
    Ok(GatedDeltaByChannelOutputs { y, final_state })
}

/// `y`, `[B, T, Hv, Dv]`, and the final state, from queries, keys, values, log gates, betas and the initial state.
pub(in crate::delta_rule) fn run_steps<M: Graph>(
    inputs: [&Tensor<M>; 6],
    gates: Gates,
) -> Result<(Tensor<M>, Tensor<M>)> {
    let steps = Recurrence::new(inputs, gates)?.run()?;
    let outputs: Vec<_> = steps.iter().map(|step| &step.y).collect();
    let last = steps.last().map_or(inputs[5], |step| &step.final_state);
    Ok((Tensor::concatenate(&outputs, 1)?, last.clone()))
}

/// Returns the number of tokens of each row that count, `[B]`, as floats that broadcast over `rank` axes.
pub(super) fn counts<M: Graph>(tokens: &Indices, rank: usize) -> Result<Tensor<M>> {
    let mut shape = vec![1; rank];
    shape[0] = tokens.shape()[0];
    tokens.to_constant("a count of tokens chooses a state")?.to_tensor::<M>().reshape(&shape)
}

/// Queries, keys, values, log gates, betas and the initial state, of sizes that fit.
pub(super) struct Recurrence<'a, M: Graph> {
    geometry: Geometry,
    inputs: [&'a Tensor<M>; 6],
}

impl<'a, M: Graph> Recurrence<'a, M> {
    pub(super) fn new(inputs: [&'a Tensor<M>; 6], gates: Gates) -> Result<Self> {
        Ok(Recurrence { geometry: Geometry::new(inputs, gates)?, inputs })
    }

    /// The results of each token: `y` `[B, 1, Hv, Dv]` and the state after it.
    pub(super) fn run(&self) -> Result<Vec<GatedDeltaStepOutputs<M>>> {
        let [queries, keys, values, log_decay, beta, initial_state] = self.inputs;
        let mut state = initial_state.clone();
        let tokens = (0..self.geometry.time).map(|t| {
            let at = |tensor: &Tensor<M>| tensor.slice(1, t, t + 1);
            let inputs = [&at(queries)?, &at(keys)?, &at(values)?, &at(log_decay)?, &at(beta)?];
            let step = step(&self.geometry, inputs, &state)?;
            state = step.final_state.clone();
            Ok(step)
        });
        tokens.collect()
    }
}

/// `S~ = g S; delta = beta (v - S~ k); S' = S~ + delta k^T; y = S' q`
/// (Yang, Kautz & Hatamizadeh 2024, "Gated Delta Networks", eq. 10, with the state transposed).
fn step<M: Graph>(
    geometry: &Geometry,
    [queries, keys, values, log_decay, beta]: [&Tensor<M>; 5],
    state: &Tensor<M>,
) -> Result<GatedDeltaStepOutputs<M>> {
    let Geometry { batch, value_heads, key_dim, value_dim, .. } = *geometry;
    let float = |tensor: &Tensor<M>, shape: &[i32]| tensor.cast(Dtype::F32)?.reshape(shape);
    let of_key_heads =
        |tensor: &Tensor<M>| float(&tensor.repeat(geometry.group(), 2)?, &[batch, value_heads, key_dim, 1]);
    let query = of_key_heads(queries)?;
    let key = of_key_heads(keys)?;
    let value = float(values, &[batch, value_heads, value_dim, 1])?;
    // There is one gate for all channels, or one for each.
    let decay = float(log_decay, &[batch, value_heads, 1, -1])?.exp()?;
    let beta = float(beta, &[batch, value_heads, 1, 1])?;

    let decayed = state.multiply(&decay)?;
    let delta = value.subtract(&decayed.matmul(&key)?)?.multiply(&beta)?;
    let state = decayed.add(&delta.multiply(&key.swap_axes(-2, -1)?)?)?;
    let y = state.matmul(&query)?.reshape(&[batch, 1, value_heads, value_dim])?.cast(values.dtype())?;
    Ok(GatedDeltaStepOutputs { y, final_state: state })
}
