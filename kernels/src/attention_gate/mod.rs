//! The gate between attention and its output projection (Qiu et al., "Gated attention for large language models", 2025).

mod fused;

use cotangent::{Graph, Result, Tensor};

pub use fused::{fused_attention_gate, fused_attention_gate_backward};

/// `attended * sigmoid(gates)`: `attended` `[B, H, T, D]` as attention leaves it and `gates` `[B, T, H, D]` as a projection
/// does give `[B, T, H * D]`.
///
/// Both are read as they lie: a slice of a projection is not copied first. Computed in float32, rounded once.
///
/// # Errors
/// Shapes or dtypes that do not fit.
pub fn attention_gate<M: Graph>(attended: &Tensor<M>, gates: &Tensor<M>) -> Result<Tensor<M>> {
    let gated = fused_attention_gate(attended, gates)?;
    let [batch, tokens, heads, width] = [0, 1, 2, 3].map(|axis| gated.dimension(axis));
    gated.reshape(&[batch, tokens, heads * width])
}
