//! Vectors of a given length: queries and keys of the gated delta rule.

use cotangent::{Dtype, Graph, Result, Tensor};

/// `scale * x / sqrt(sum(x^2) + epsilon)` along the last axis, computed in float32 and returned in the dtype of `x`.
///
/// # Errors
/// A scalar `x`.
pub fn l2norm<M: Graph>(x: &Tensor<M>, scale: f32, epsilon: f32) -> Result<Tensor<M>> {
    let wide = x.cast(Dtype::F32)?;
    let factor = wide.square()?.sum_keep(&[-1])?.add(epsilon)?.rsqrt()?;
    // The factor is a number a vector: scaling it is cheaper than scaling the result.
    let factor = if scale == 1.0 { factor } else { factor.multiply(scale)? };
    wide.multiply(&factor)?.cast(x.dtype())
}
