//! The gate of the feed-forward layers.

mod fused;
mod portable;
mod weighted;

use cotangent::{Dtype, Error, Graph, Result, Tensor};

pub use fused::{fused_swiglu, fused_swiglu_backward};
pub use portable::{portable_swiglu, portable_swiglu_backward};
pub use weighted::{fused_weighted_swiglu, fused_weighted_swiglu_backward};

/// `silu(gate) * up`, element by element, in the dtype of the two: `[.., I]`.
///
/// Shazeer, "GLU variants improve transformer" (2020).
///
/// # Errors
/// Shapes or dtypes that differ.
pub fn swiglu<M: Graph>(gate: &Tensor<M>, up: &Tensor<M>) -> Result<Tensor<M>> {
    // The kernel checks the rest. Two different shapes could look alike when they are flattened.
    if gate.shape() != up.shape() {
        return Err(Error::Shape {
            operation: "swiglu",
            found: format!("{:?} and {:?}", gate.shape(), up.shape()),
            expected: "one shape".into(),
        });
    }
    fused_swiglu(&gate.reshape(&[-1])?, &up.reshape(&[-1])?)?.reshape(gate.shape())
}

/// [`swiglu`] of rows `[R, I]`, each times its weight: `[R]`, of any float dtype.
///
/// # Errors
/// Shapes or dtypes that do not fit.
pub fn weighted_swiglu<M: Graph>(gate: &Tensor<M>, up: &Tensor<M>, weights: &Tensor<M>) -> Result<Tensor<M>> {
    fused_weighted_swiglu(gate, up, &weights.cast(Dtype::F32)?)
}
