//! A gate for each channel of the keys, as Kimi Delta Attention has them.

use cotangent::{Dtype, Graph, Infer, Result, Tensor, differentiable};

use super::columns::run_columns_back;
use super::rows::run_rows_back;
use super::run::run_tokens;
use crate::delta_rule::chunk_length;
use crate::delta_rule::portable::gated_delta_by_channel_in_operations;

/// The gated delta rule with a gate for each channel of the keys: `S~_t = S_{t-1} diag(g_t)`, `log_decay` `[B, T, Hv, Dk]`.
/// All else is as in [`gated_delta`](fn@crate::gated_delta) (Kimi Team 2025, "Kimi Linear", section 3).
///
/// Where kernels run it goes token by token: right at any length, and its time is that of `T` steps one after the other. A CPU
/// takes chunks, in operations
/// ([`gated_delta_by_channel_in_operations`](fn@crate::delta_rule::gated_delta_by_channel_in_operations)).
///
/// # Errors
/// Shapes or dtypes that do not fit.
#[differentiable(
    backward = gated_delta_by_channel_backward,
    fallback = in_operations,
    expensive,
    stages = [run_tokens],
    requires = [T >= 1, Hk >= 1, Hv % Hk == 0],
    cases = [
        (B = 2, T = 1, Hk = 1, Hv = 1, Dk = 4, Dv = 5),
        (B = 1, T = 7, Hk = 1, Hv = 2, Dk = 5, Dv = 3),
        (B = 1, T = 18, Hk = 1, Hv = 1, Dk = 3, Dv = 33),
    ],
)]
pub fn gated_delta_by_channel<F: Float, G: Float>(
    queries: In![F; B, T, Hk, Dk],
    keys: In![F; B, T, Hk, Dk],
    values: In![F; B, T, Hv, Dv],
    #[values(-2.0..0.0)] log_decay: In![f32; B, T, Hv, Dk],
    #[values(0.0..1.0)] beta: In![G; B, T, Hv],
    initial_state: In![f32; B, Hv, Dv, Dk],
    y: Out![F; B, T, Hv, Dv],
    final_state: Out![f32; B, Hv, Dv, Dk],
) {
    let run = run_tokens(stages, queries, keys, values, log_decay, beta, initial_state, None, T as usize)?;
    Ok(Outputs { y: run.y, final_state: run.final_state })
}

/// The gradient of [`gated_delta_by_channel`](fn@gated_delta_by_channel). With `P` the cotangent of the state after a
/// token, `w = P k`:
///
/// ```text
/// dq = S^T dy      dv = beta w      dbeta = w.(v - S~ k)      dk = P^T delta - S~^T dv
/// dlog g_j = sum_i (P - dv k^T)_ij S~_ij      P_{t-1} = (P - dv k^T) diag(g) + dy_{t-1} q_{t-1}^T
/// ```
#[differentiable(
    backward_of = gated_delta_by_channel,
    stages = [run_tokens, run_rows_back, run_columns_back],
)]
pub fn gated_delta_by_channel_backward<F: Float, G: Float>(
    queries: In![F; B, T, Hk, Dk],
    keys: In![F; B, T, Hk, Dk],
    values: In![F; B, T, Hv, Dv],
    log_decay: In![f32; B, T, Hv, Dk],
    beta: In![G; B, T, Hv],
    initial_state: In![f32; B, Hv, Dv, Dk],
    d_y: In![F; B, T, Hv, Dv],
    d_final_state: In![f32; B, Hv, Dv, Dk],
    d_queries: Out![F; B, T, Hk, Dk],
    d_keys: Out![F; B, T, Hk, Dk],
    d_values: Out![F; B, T, Hv, Dv],
    d_log_decay: Out![f32; B, T, Hv, Dk],
    d_beta: Out![G; B, T, Hv],
    d_initial_state: Out![f32; B, Hv, Dv, Dk],
) {
    let run = run_tokens(stages, queries, keys, values, log_decay, beta, initial_state, None, 16)?;
    let back = run_rows_back(stages, queries, keys, log_decay, beta, d_y, d_final_state)?;
    let gradients = run_columns_back(
        stages,
        queries,
        keys,
        log_decay,
        beta,
        &run.errors,
        &run.entry_states,
        d_y,
        &back.written_cotangent,
        d_final_state,
    )?;
    let strength = beta.cast(Dtype::F32)?.expand_dims(3)?;
    let of_key_heads =
        |gradient: &Tensor<Infer>| gradient.reshape(&[B, T, Hk, Hv / Hk, Dk])?.sum(&[3])?.cast(queries.dtype());
    Ok(Outputs {
        d_queries: Some(of_key_heads(&gradients.query_gradient)?),
        d_keys: Some(of_key_heads(&gradients.key_gradient)?),
        d_values: Some(back.written_cotangent.multiply(&strength)?.cast(values.dtype())?),
        d_log_decay: Some(gradients.log_decay_gradient),
        d_beta: Some(back.written_cotangent.multiply(&run.errors)?.sum(&[3])?.cast(beta.dtype())?),
        d_initial_state: Some(back.initial_cotangent),
    })
}

/// The same in chunks, in operations.
fn in_operations<M: Graph>(
    queries: &Tensor<M>,
    keys: &Tensor<M>,
    values: &Tensor<M>,
    log_decay: &Tensor<M>,
    beta: &Tensor<M>,
    initial_state: &Tensor<M>,
) -> Result<GatedDeltaByChannelOutputs<M>> {
    let chunk = chunk_length(cotangent::backend()?);
    let outputs = gated_delta_by_channel_in_operations(queries, keys, values, log_decay, beta, initial_state, chunk)?;
    Ok(GatedDeltaByChannelOutputs { y: outputs.y, final_state: outputs.final_state })
}
