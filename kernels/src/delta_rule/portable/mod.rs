//! The chunked gated delta rule in MLX's operations: for the CPU, and for sizes that the tiles of a GPU do not divide.

mod backward;
mod by_channel;
mod chunks;
mod constants;
mod decay;
mod decay_by_head;
mod forward;
mod inverse;
mod within;

use cotangent::{Graph, Result, differentiable};

use super::geometry::Geometry;
use super::sequential::{GatedDeltaStepInputs, gated_delta_steps};
use decay_by_head::HeadDecay;

pub use by_channel::{
    GatedDeltaByChannelInOperationsInputs, GatedDeltaByChannelInOperationsOutputs, gated_delta_by_channel_in_operations,
};

/// [`gated_delta`](fn@super::gated_delta), composed of operations.
#[differentiable(
    backward = gated_delta_in_operations_backward,
    fallback = token_by_token,
    expensive,
    cases = [
        (B = 2, T = 7, Hk = 1, Hv = 3, Dk = 4, Dv = 5, CHUNK = 32),
        (B = 1, T = 70, Hk = 2, Hv = 2, Dk = 8, Dv = 3, CHUNK = 32),
        (B = 1, T = 70, Hk = 1, Hv = 2, Dk = 8, Dv = 3, CHUNK = 64),
    ],
)]
pub fn gated_delta_in_operations<F: Float, G: Float, const CHUNK: usize>(
    queries: In![F; B, T, Hk, Dk],
    keys: In![F; B, T, Hk, Dk],
    values: In![F; B, T, Hv, Dv],
    #[values(-2.0..0.0)] log_decay: In![f32; B, T, Hv],
    #[values(0.0..1.0)] beta: In![G; B, T, Hv],
    initial_state: In![f32; B, Hv, Dv, Dk],
    y: Out![F; B, T, Hv, Dv],
    final_state: Out![f32; B, Hv, Dv, Dk],
    #[saved] chunk_states: Out![f32; ceil_div(T, CHUNK), B, Hv, Dv, Dk],
) {
    let geometry =
        Geometry { batch: B, time: T, key_heads: Hk, value_heads: Hv, key_dim: Dk, value_dim: Dv, chunk: CHUNK as i32 }
            .checked()?;
    let forward = forward::forward::<HeadDecay>(geometry, [queries, keys, values, log_decay, beta, initial_state])?;
    Ok(Outputs { y: forward.y, final_state: forward.final_state, chunk_states: forward.chunk_states })
}

/// The gradient: everything within the chunks is computed again from the states they began with.
#[differentiable(backward_of = gated_delta_in_operations)]
pub fn gated_delta_in_operations_backward<F: Float, G: Float, const CHUNK: usize>(
    queries: In![F; B, T, Hk, Dk],
    keys: In![F; B, T, Hk, Dk],
    values: In![F; B, T, Hv, Dv],
    log_decay: In![f32; B, T, Hv],
    beta: In![G; B, T, Hv],
    chunk_states: In![f32; ceil_div(T, CHUNK), B, Hv, Dv, Dk],
    d_y: In![F; B, T, Hv, Dv],
    d_final_state: In![f32; B, Hv, Dv, Dk],
    d_queries: Out![F; B, T, Hk, Dk],
    d_keys: Out![F; B, T, Hk, Dk],
    d_values: Out![F; B, T, Hv, Dv],
    d_log_decay: Out![f32; B, T, Hv],
    d_beta: Out![G; B, T, Hv],
    d_initial_state: Out![f32; B, Hv, Dv, Dk],
) {
    let geometry =
        Geometry { batch: B, time: T, key_heads: Hk, value_heads: Hv, key_dim: Dk, value_dim: Dv, chunk: CHUNK as i32 };
    let inputs = [queries, keys, values, log_decay, beta];
    let gradients = backward::backward::<HeadDecay>(geometry, inputs, chunk_states, [d_y, d_final_state])?;
    // MLX computes nothing before it is evaluated, so a gradient that is not wanted costs nothing.
    Ok(Outputs {
        d_queries: Some(gradients.queries),
        d_keys: Some(gradients.keys),
        d_values: Some(gradients.values),
        d_log_decay: Some(gradients.log_decay),
        d_beta: Some(gradients.beta),
        d_initial_state: Some(gradients.initial_state),
    })
}

/// [`gated_delta_steps`], to which chunks mean nothing.
fn token_by_token<M: Graph>(inputs: GatedDeltaInOperationsInputs<'_, M>) -> Result<GatedDeltaInOperationsOutputs<M>> {
    let GatedDeltaInOperationsInputs { queries, keys, values, log_decay, beta, initial_state: state, .. } = inputs;
    let outputs = gated_delta_steps(GatedDeltaStepInputs { queries, keys, values, log_decay, beta, state })?;
    Ok(GatedDeltaInOperationsOutputs { y: outputs.y, final_state: outputs.final_state })
}
