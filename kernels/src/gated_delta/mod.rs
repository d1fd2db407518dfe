//! The gated delta rule: a linear attention whose state forgets by a gate and overwrites by the delta rule.
//!
//! Per value head, with the state `S` a matrix `[Dv, Dk]` that maps keys to values,
//!
//! ```text
//! S_t = g_t S_{t-1} + beta_t (v_t - g_t S_{t-1} k_t) k_t^T        y_t = S_t q_t
//! ```
//!
//! All arithmetic is float32, whatever the inputs are: in bfloat16 the recurrence loses its gradients.

mod backward;
mod chunks;
mod forward;
mod geometry;
mod inverse;
mod steps;
mod within;

use cotangent::{Graph, Result, Tensor, custom_vjp};

use geometry::Geometry;

pub use steps::{gated_delta_step, gated_delta_steps};

/// What [`gated_delta`] returns.
#[derive(Debug)]
pub struct GatedDeltaOutputs<M: Graph> {
    /// `[B, T, Hv, Dv]`, in the dtype of `values`.
    pub y: Tensor<M>,
    /// The state after the last token: `[B, Hv, Dv, Dk]`, float32.
    pub final_state: Tensor<M>,
}

/// The gated delta rule over `T` tokens.
///
/// - `queries`, `keys` `[B, T, Hk, Dk]`: l2-normalised, and the queries scaled, by the caller;
/// - `values` `[B, T, Hv, Dv]`, with `Hv` a multiple of `Hk`: value head `h` reads key head `h / (Hv / Hk)`;
/// - `log_decay` `[B, T, Hv]`, float32: `ln g`, not positive; `beta` `[B, T, Hv]`;
/// - `initial_state` `[B, Hv, Dv, Dk]`, float32.
///
/// A token with `log_decay` and `beta` 0 leaves the state as it was: so is padding masked.
///
/// # Errors
/// Shapes that do not fit, or gates and state that are not float32.
pub fn gated_delta<M: Graph>(
    queries: &Tensor<M>,
    keys: &Tensor<M>,
    values: &Tensor<M>,
    log_decay: &Tensor<M>,
    beta: &Tensor<M>,
    initial_state: &Tensor<M>,
) -> Result<GatedDeltaOutputs<M>> {
    let inputs = [queries, keys, values, log_decay, beta, initial_state];
    let geometry = Geometry::of(inputs)?;
    let mut outputs = custom_vjp("gated_delta", &inputs, &geometry, forward::forward, backward::backward)?.into_iter();
    match (outputs.next(), outputs.next()) {
        (Some(y), Some(final_state)) => Ok(GatedDeltaOutputs { y, final_state }),
        _ => unreachable!("`forward` returns three tensors"),
    }
}
