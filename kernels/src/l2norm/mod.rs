//! Vectors of a given length: queries and keys of the gated delta rule.

mod fused;

use cotangent::{Graph, Result, Tensor};

use crate::rms_norm::heads_of;
pub use fused::{fused_l2norm, fused_l2norm_backward};

/// `scale * x / sqrt(sum(x^2) + epsilon)` along the last axis, computed in float32 and returned in the dtype of `x`.
///
/// # Errors
/// A scalar `x`.
pub fn l2norm<M: Graph>(x: &Tensor<M>, scale: f32, epsilon: f32) -> Result<Tensor<M>> {
    fused_l2norm(&x.reshape(&heads_of("l2norm", x.shape())?)?, scale, epsilon)?.reshape(x.shape())
}
