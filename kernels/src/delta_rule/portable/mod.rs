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

use super::geometry::{Gates, Geometry};
use super::sequential::run_steps;
use backward::backward;
use by_channel::ChannelDecay;
use decay_by_head::HeadDecay;
use forward::forward;

/// [`gated_delta`](fn@super::gated_delta) and [`gated_delta_by_channel`](fn@super::gated_delta_by_channel), composed of operations.
///
/// - `log_decay`: one for each head (W = 1), or one for each channel of each head (W = Dk);
/// - `chunk`: tokens of a chunk, a power of two from 8 on.
///
/// # Errors
/// Shapes or dtypes that do not fit.
#[differentiable(
    backward = gated_delta_in_operations_backward,
    fallback = token_by_token,
    expensive,
    requires = [(W - 1) * (W - Dk) == 0],
    cases = [
        (B = 2, T = 7, Hk = 1, Hv = 3, Dk = 4, Dv = 5, W = 1, CHUNK = 32),
        (B = 1, T = 70, Hk = 2, Hv = 2, Dk = 8, Dv = 3, W = 1, CHUNK = 32),
        (B = 1, T = 70, Hk = 1, Hv = 2, Dk = 8, Dv = 3, W = 1, CHUNK = 64),
        (B = 2, T = 1, Hk = 1, Hv = 2, Dk = 4, Dv = 5, W = 4, CHUNK = 8),
        (B = 2, T = 7, Hk = 1, Hv = 3, Dk = 4, Dv = 5, W = 4, CHUNK = 32),
        (B = 1, T = 22, Hk = 2, Hv = 2, Dk = 8, Dv = 3, W = 8, CHUNK = 8),
        (B = 1, T = 70, Hk = 1, Hv = 2, Dk = 5, Dv = 3, W = 5, CHUNK = 64),
    ],
)]
pub fn gated_delta_in_operations<F: Float, G: Float, const CHUNK: usize>(
    queries: In![F; B, T, Hk, Dk],
    keys: In![F; B, T, Hk, Dk],
    values: In![F; B, T, Hv, Dv],
    #[values(-2.0..0.0)] log_decay: In![f32; B, T, Hv, W],
    #[values(0.0..1.0)] beta: In![G; B, T, Hv],
    initial_state: In![f32; B, Hv, Dv, Dk],
    y: Out![F; B, T, Hv, Dv],
    final_state: Out![f32; B, Hv, Dv, Dk],
    #[saved] chunk_states: Out![f32; ceil_div(T, CHUNK), B, Hv, Dv, Dk],
) {
    let geometry =
        Geometry { batch: B, time: T, key_heads: Hk, value_heads: Hv, key_dim: Dk, value_dim: Dv, chunk: CHUNK as i32 }
            .checked()?;
    let inputs = [queries, keys, values, log_decay, beta, initial_state];
    let forward =
        if W == 1 { forward::<HeadDecay>(geometry, inputs)? } else { forward::<ChannelDecay>(geometry, inputs)? };
    Ok(Outputs { y: forward.y, final_state: forward.final_state, chunk_states: forward.chunk_states })
}

/// The gradient: everything within the chunks is computed again from the states they began with.
#[differentiable(backward_of = gated_delta_in_operations)]
pub fn gated_delta_in_operations_backward<F: Float, G: Float, const CHUNK: usize>(
    queries: In![F; B, T, Hk, Dk],
    keys: In![F; B, T, Hk, Dk],
    values: In![F; B, T, Hv, Dv],
    log_decay: In![f32; B, T, Hv, W],
    beta: In![G; B, T, Hv],
    chunk_states: In![f32; ceil_div(T, CHUNK), B, Hv, Dv, Dk],
    d_y: In![F; B, T, Hv, Dv],
    d_final_state: In![f32; B, Hv, Dv, Dk],
    d_queries: Out![F; B, T, Hk, Dk],
    d_keys: Out![F; B, T, Hk, Dk],
    d_values: Out![F; B, T, Hv, Dv],
    d_log_decay: Out![f32; B, T, Hv, W],
    d_beta: Out![G; B, T, Hv],
    d_initial_state: Out![f32; B, Hv, Dv, Dk],
) {
    let geometry =
        Geometry { batch: B, time: T, key_heads: Hk, value_heads: Hv, key_dim: Dk, value_dim: Dv, chunk: CHUNK as i32 };
    let (inputs, cotangents) = ([queries, keys, values, log_decay, beta], [d_y, d_final_state]);
    let gradients = if W == 1 {
        backward::<HeadDecay>(geometry, inputs, chunk_states, cotangents)?
    } else {
        backward::<ChannelDecay>(geometry, inputs, chunk_states, cotangents)?
    };
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

/// The recurrence, token by token; the length of a chunk does not change it.
fn token_by_token<M: Graph>(inputs: GatedDeltaInOperationsInputs<'_, M>) -> Result<GatedDeltaInOperationsOutputs<M>> {
    let GatedDeltaInOperationsInputs { queries, keys, values, log_decay, beta, initial_state, .. } = inputs;
    let gates = if log_decay.dimension(3) == 1 { Gates::OfHeads } else { Gates::OfChannels };
    let (y, final_state) = run_steps([queries, keys, values, log_decay, beta, initial_state], gates)?;
    Ok(GatedDeltaInOperationsOutputs { y, final_state })
}
