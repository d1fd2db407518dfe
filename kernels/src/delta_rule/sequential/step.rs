//! The step of a single token, which generation needs.

use cotangent::{Graph, Result, differentiable, stage};

use super::by_operations::{gated_delta_by_channel_steps, gated_delta_steps};

/// [`gated_delta`](fn@crate::gated_delta) of a single token (T = 1): one launch, which reads and writes each element of
/// the state once.
///
/// # Errors
/// As [`gated_delta`](fn@crate::gated_delta), and more than one token.
#[differentiable(
    fallback = step_by_operations,
    stages = [step_token],
    requires = [Hk >= 1, Hv % Hk == 0],
    cases = [(B = 1, Hk = 1, Hv = 1, Dk = 5, Dv = 3), (B = 3, Hk = 2, Hv = 4, Dk = 33, Dv = 7)],
)]
pub fn gated_delta_step<F: Float, G: Float>(
    queries: In![F; B, 1, Hk, Dk],
    keys: In![F; B, 1, Hk, Dk],
    values: In![F; B, 1, Hv, Dv],
    #[values(-2.0..0.0)] log_decay: In![f32; B, 1, Hv],
    #[values(0.0..1.0)] beta: In![G; B, 1, Hv],
    state: In![f32; B, Hv, Dv, Dk],
    y: Out![F; B, 1, Hv, Dv],
    final_state: Out![f32; B, Hv, Dv, Dk],
) {
    let outputs = step_token(
        stages,
        StepTokenInputs { queries, keys, values, log_decay: &log_decay.expand_dims(3)?, beta, state },
    )?;
    Ok(Outputs { y: outputs.y, final_state: outputs.final_state })
}

/// [`gated_delta_by_channel`](fn@crate::gated_delta_by_channel) of a single token, as [`gated_delta_step`](fn@gated_delta_step).
///
/// # Errors
/// As [`gated_delta_by_channel`](fn@crate::gated_delta_by_channel), and more than one token.
#[differentiable(
    fallback = step_by_channel_by_operations,
    stages = [step_token],
    requires = [Hk >= 1, Hv % Hk == 0],
    cases = [(B = 1, Hk = 1, Hv = 1, Dk = 5, Dv = 3), (B = 3, Hk = 2, Hv = 4, Dk = 33, Dv = 7)],
)]
pub fn gated_delta_by_channel_step<F: Float, G: Float>(
    queries: In![F; B, 1, Hk, Dk],
    keys: In![F; B, 1, Hk, Dk],
    values: In![F; B, 1, Hv, Dv],
    #[values(-2.0..0.0)] log_decay: In![f32; B, 1, Hv, Dk],
    #[values(0.0..1.0)] beta: In![G; B, 1, Hv],
    state: In![f32; B, Hv, Dv, Dk],
    y: Out![F; B, 1, Hv, Dv],
    final_state: Out![f32; B, Hv, Dv, Dk],
) {
    let outputs = step_token(stages, StepTokenInputs { queries, keys, values, log_decay, beta, state })?;
    Ok(Outputs { y: outputs.y, final_state: outputs.final_state })
}

fn step_by_operations<M: Graph>(inputs: GatedDeltaStepInputs<'_, M>) -> Result<GatedDeltaStepOutputs<M>> {
    let outputs = gated_delta_steps(inputs)?;
    Ok(GatedDeltaStepOutputs { y: outputs.y, final_state: outputs.final_state })
}

fn step_by_channel_by_operations<M: Graph>(
    inputs: GatedDeltaByChannelStepInputs<'_, M>,
) -> Result<GatedDeltaByChannelStepOutputs<M>> {
    let outputs = gated_delta_by_channel_steps(inputs)?;
    Ok(GatedDeltaByChannelStepOutputs { y: outputs.y, final_state: outputs.final_state })
}

/// `S~ = g S; delta = beta (v - S~ k); S' = S~ + delta k^T; y = S' q`
/// (Yang, Kautz & Hatamizadeh 2024, "Gated Delta Networks", eq. 10, with the state transposed). One simdgroup has one row.
///
/// - `log_decay`: one for each head (W = 1), or one for each channel too (W = Dk).
#[stage(
    grid = (32 * Dv, Hv, B),
    threads = (32, 1, 1),
    cases = [(B = 1, Hk = 1, Hv = 1, Dk = 5, Dv = 3, W = 1), (B = 3, Hk = 2, Hv = 4, Dk = 33, Dv = 7, W = 33)],
)]
pub(crate) fn step_token<F: Float, G: Float>(
    queries: In![F; B, 1, Hk, Dk],
    keys: In![F; B, 1, Hk, Dk],
    values: In![F; B, 1, Hv, Dv],
    #[values(-2.0..0.0)] log_decay: In![f32; B, 1, Hv, W],
    #[values(0.0..1.0)] beta: In![G; B, 1, Hv],
    state: In![f32; B, Hv, Dv, Dk],
    y: Out![F; B, 1, Hv, Dv],
    final_state: Out![f32; B, Hv, Dv, Dk],
) {
    metal! {
        const int lane = thread_index_in_simdgroup;
        const int head = threadgroup_position_in_grid.y;
        const int batch = threadgroup_position_in_grid.z;
        const int heads = batch * Hv + head;
        const ulong row = ulong(heads) * Dv + threadgroup_position_in_grid.x;
        const ulong key = (ulong(batch) * Hk + head / (Hv / Hk)) * Dk;

        float answer = 0.0f;
        for (int k = lane; k < Dk; k += 32) {
            const float decayed = exp(log_decay[heads * W + (W == 1 ? 0 : k)]) * state[row * Dk + k];
            answer += decayed * float(keys[key + k]);
        }
        const float delta = float(beta[heads]) * (float(values[row]) - simd_sum(answer));
        float sum = 0.0f;
        for (int k = lane; k < Dk; k += 32) {
            const float decayed = exp(log_decay[heads * W + (W == 1 ? 0 : k)]) * state[row * Dk + k];
            const float next = decayed + delta * float(keys[key + k]);
            final_state[row * Dk + k] = next;
            sum += next * float(queries[key + k]);
        }
        sum = simd_sum(sum);
        if (lane == 0) { y[row] = F(sum); }
    }
}
