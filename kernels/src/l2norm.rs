//! Scales vectors to a given length, as the queries and keys of the gated delta rule need.

use cotangent::{Graph, Result, Tensor};

use crate::rms_norm::{fused_norm, heads_of};

/// `scale * x / sqrt(sum(x^2) + epsilon)` along the last axis, computed in float32 and returned in the dtype of `x`.
///
/// # Errors
/// A scalar `x`.
pub fn l2norm<M: Graph>(x: &Tensor<M>, scale: f32, epsilon: f32) -> Result<Tensor<M>> {
    let heads = x.reshape(&heads_of("l2norm", x.shape())?)?;
    fused_norm(&heads, None, None, scale, 0.0, epsilon, false)?.reshape(x.shape())
}
