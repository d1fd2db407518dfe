//! The gates of the gated delta rule: how much of the state stays, and how much of a token is written.

use cotangent::{Dtype, Graph, Result, Tensor};

/// What [`gates`] returns, both float32.
#[derive(Debug)]
pub struct GatesOutputs<M: Graph> {
    /// The logarithm of the decay, never positive: `[B, T, Hv]`.
    pub log_decay: Tensor<M>,
    /// The share of the error that is written, in (0, 1): `[B, T, Hv]`.
    pub beta: Tensor<M>,
}

/// `log_decay = -exp(a_log) * softplus(a + dt_bias)` and `beta = sigmoid(b)`, in float32 whatever the inputs are.
///
/// `a` and `b` are `[B, T, Hv]`, `a_log` and `dt_bias` `[Hv]`. The decay stays a logarithm: it reaches 1e-26 in trained
/// models, and gradients with respect to the decay itself would be divided by it.
///
/// # Errors
/// Shapes that do not broadcast.
pub fn gates<M: Graph>(
    a: &Tensor<M>,
    b: &Tensor<M>,
    a_log: &Tensor<M>,
    dt_bias: &Tensor<M>,
) -> Result<GatesOutputs<M>> {
    let rate = a_log.cast(Dtype::F32)?.exp()?.negative()?;
    let step = a.cast(Dtype::F32)?.add(&dt_bias.cast(Dtype::F32)?)?.softplus()?;
    Ok(GatesOutputs { log_decay: step.multiply(&rate)?, beta: b.cast(Dtype::F32)?.sigmoid()? })
}
