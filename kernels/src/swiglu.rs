//! The gate of the feed-forward layers.

use cotangent::{Graph, Result, Tensor};

/// `silu(gate) * up`, element by element, in the dtype of the two.
///
/// Shazeer, "GLU variants improve transformer" (2020).
///
/// # Errors
/// Shapes or dtypes that differ.
pub fn swiglu<M: Graph>(gate: &Tensor<M>, up: &Tensor<M>) -> Result<Tensor<M>> {
    gate.silu()?.multiply(up)
}
