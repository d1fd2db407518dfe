//! A gate for each channel of the keys, in chunks.
//!
//! With gates of channels a score is not a product of vectors times a decay: each of its terms has a decay of its own,
//!
//! ```text
//! X_ij = sum_d k_i[d] k_j[d] g_d(j, i)  (j < i)      P_ij = sum_d q_i[d] k_j[d] g_d(j, i)  (j <= i)
//! ```
//!
//! and computing `g(j, i)` as `g(start, i) / g(start, j)` overflows as soon as gates shut. But for a boundary between
//! two tokens, `g(j, i) = g(j, boundary) g(boundary, i)`, and neither factor is more than 1. So a chunk is halved, its
//! halves are halved, and so on to single tokens. The later half of each pair reads the earlier one over the boundary
//! between them, in one matrix product for all pairs of a size. If a factor underflows, the score would have
//! underflowed too.
//!
//! All else is as with a gate for each head.

mod decay;
mod halves;

use cotangent::{Graph, Result, differentiable};

use self::decay::ChannelDecay;
use super::backward::backward;
use super::forward::forward;
use crate::delta_rule::geometry::Geometry;
use crate::delta_rule::sequential::{GatedDeltaByChannelStepInputs, gated_delta_by_channel_steps};

/// [`gated_delta_by_channel`](fn@crate::gated_delta_by_channel) in chunks, composed of operations.
///
/// - `chunk`: tokens of a chunk, a power of two from 8 on.
///
/// # Errors
/// Shapes or dtypes that do not fit.
#[differentiable(
    backward = gated_delta_by_channel_in_operations_backward,
    fallback = token_by_token,
    expensive,
    cases = [
        (B = 2, T = 1, Hk = 1, Hv = 2, Dk = 4, Dv = 5, CHUNK = 8),
        (B = 2, T = 7, Hk = 1, Hv = 3, Dk = 4, Dv = 5, CHUNK = 32),
        (B = 1, T = 22, Hk = 2, Hv = 2, Dk = 8, Dv = 3, CHUNK = 8),
        (B = 1, T = 70, Hk = 1, Hv = 2, Dk = 5, Dv = 3, CHUNK = 64),
    ],
)]
pub fn gated_delta_by_channel_in_operations<F: Float, G: Float, const CHUNK: usize>(
    queries: In![F; B, T, Hk, Dk],
    keys: In![F; B, T, Hk, Dk],
    values: In![F; B, T, Hv, Dv],
    #[values(-2.0..0.0)] log_decay: In![f32; B, T, Hv, Dk],
    #[values(0.0..1.0)] beta: In![G; B, T, Hv],
    initial_state: In![f32; B, Hv, Dv, Dk],
    y: Out![F; B, T, Hv, Dv],
    final_state: Out![f32; B, Hv, Dv, Dk],
    #[saved] chunk_states: Out![f32; ceil_div(T, CHUNK), B, Hv, Dv, Dk],
) {
    let geometry =
        Geometry { batch: B, time: T, key_heads: Hk, value_heads: Hv, key_dim: Dk, value_dim: Dv, chunk: CHUNK as i32 }
            .checked()?;
    let forward = forward::<ChannelDecay>(geometry, [queries, keys, values, log_decay, beta, initial_state])?;
    Ok(Outputs { y: forward.y, final_state: forward.final_state, chunk_states: forward.chunk_states })
}

/// The gradient: everything within the chunks is computed again from the states they began with.
#[differentiable(backward_of = gated_delta_by_channel_in_operations)]
pub fn gated_delta_by_channel_in_operations_backward<F: Float, G: Float, const CHUNK: usize>(
    queries: In![F; B, T, Hk, Dk],
    keys: In![F; B, T, Hk, Dk],
    values: In![F; B, T, Hv, Dv],
    log_decay: In![f32; B, T, Hv, Dk],
    beta: In![G; B, T, Hv],
    chunk_states: In![f32; ceil_div(T, CHUNK), B, Hv, Dv, Dk],
    d_y: In![F; B, T, Hv, Dv],
    d_final_state: In![f32; B, Hv, Dv, Dk],
    d_queries: Out![F; B, T, Hk, Dk],
    d_keys: Out![F; B, T, Hk, Dk],
    d_values: Out![F; B, T, Hv, Dv],
    d_log_decay: Out![f32; B, T, Hv, Dk],
    d_beta: Out![G; B, T, Hv],
    d_initial_state: Out![f32; B, Hv, Dv, Dk],
) {
    let geometry =
        Geometry { batch: B, time: T, key_heads: Hk, value_heads: Hv, key_dim: Dk, value_dim: Dv, chunk: CHUNK as i32 };
    let inputs = [queries, keys, values, log_decay, beta];
    let gradients = backward::<ChannelDecay>(geometry, inputs, chunk_states, [d_y, d_final_state])?;
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

/// [`gated_delta_by_channel_steps`], to which chunks mean nothing.
fn token_by_token<M: Graph>(
    inputs: GatedDeltaByChannelInOperationsInputs<'_, M>,
) -> Result<GatedDeltaByChannelInOperationsOutputs<M>> {
    let GatedDeltaByChannelInOperationsInputs { queries, keys, values, log_decay, beta, initial_state: state, .. } =
        inputs;
    let outputs =
        gated_delta_by_channel_steps(GatedDeltaByChannelStepInputs { queries, keys, values, log_decay, beta, state })?;
    Ok(GatedDeltaByChannelInOperationsOutputs { y: outputs.y, final_state: outputs.final_state })
}
