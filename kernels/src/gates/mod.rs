//! The gates of the gated delta rule: the share of the state that stays, and the share of a token that is written.
//!
//! Formulas of Yang, Kautz and Hatamizadeh, "Gated delta networks" (2024), in the parameters of Mamba 2 (Dao and Gu, 2024).

mod fused;

use cotangent::{Dtype, Error, Graph, Result, Tensor};

pub use fused::{FusedGatesInputs, FusedGatesOutputs, fused_gates, fused_gates_backward};

/// The outputs of [`gates`], both float32.
#[derive(Debug)]
pub struct GatesOutputs<M: Graph> {
    /// The logarithm of the decay, never positive: `[B, T, Hv]`.
    pub log_decay: Tensor<M>,
    /// The share of the error that is written, in (0, 1): `[B, T, Hv]`.
    pub beta: Tensor<M>,
}

/// Computes `log_decay = -exp(a_log) * softplus(a + dt_bias)` and `beta = sigmoid(b)` in float32, for inputs of any
/// dtype.
///
/// `a` and `b` are `[B, T, Hv]`, `a_log` and `dt_bias` `[Hv]`. The decay stays a logarithm: it reaches 1e-26 in trained
/// models, and gradients with respect to the decay itself would be divided by it.
///
/// # Errors
/// Shapes or dtypes that do not fit.
pub fn gates<M: Graph>(
    a: &Tensor<M>,
    b: &Tensor<M>,
    a_log: &Tensor<M>,
    dt_bias: &Tensor<M>,
) -> Result<GatesOutputs<M>> {
    let shape = a.shape();
    let (Some(heads), true) = (shape.last(), shape == b.shape()) else {
        return Err(Error::Shape {
            operation: "gates",
            found: format!("{shape:?} and {:?}", b.shape()),
            expected: "one shape [.., heads]".into(),
        });
    };
    let rows = [-1, *heads];
    let outputs = fused_gates(FusedGatesInputs {
        a: &a.reshape(&rows)?,
        b: &b.reshape(&rows)?,
        a_log: &a_log.cast(Dtype::F32)?,
        dt_bias: &dt_bias.cast(Dtype::F32)?,
    })?;
    Ok(GatesOutputs { log_decay: outputs.log_decay.reshape(shape)?, beta: outputs.beta.reshape(shape)? })
}
