//! Root-mean-square normalisation, in the three forms of the Qwen models.
//!
//! All compute in float32 and return the dtype of `x`; weights are float32 as they train best there, and stay as the
//! checkpoint has them.

use cotangent::{Dtype, Graph, Result, Tensor};

/// `weight * x / sqrt(mean(x^2) + epsilon)` along the last axis: `[.., n]` with a weight `[n]`.
///
/// # Errors
/// A weight that is not as long as the last axis.
pub fn rms_norm<M: Graph>(x: &Tensor<M>, weight: &Tensor<M>, epsilon: f32) -> Result<Tensor<M>> {
    let weight = weight.cast(Dtype::F32)?;
    x.cast(Dtype::F32)?.rms_norm(&weight, epsilon)?.cast(x.dtype())
}

/// `(1 + weight) * x / sqrt(mean(x^2) + epsilon)` along the last axis: `[.., n]` with a weight `[n]`.
///
/// # Errors
/// A weight that is not as long as the last axis.
pub fn rms_norm_zero_centred<M: Graph>(x: &Tensor<M>, weight: &Tensor<M>, epsilon: f32) -> Result<Tensor<M>> {
    rms_norm(x, &weight.cast(Dtype::F32)?.add(1.0)?, epsilon)
}

/// `weight * x / sqrt(mean(x^2) + epsilon) * silu(gate)` along the last axis: `[.., n]` with a gate of the same shape
/// and a weight `[n]`.
///
/// # Errors
/// A gate of another shape or dtype, or a weight that is not as long as the last axis.
pub fn rms_norm_gated<M: Graph>(
    x: &Tensor<M>,
    gate: &Tensor<M>,
    weight: &Tensor<M>,
    epsilon: f32,
) -> Result<Tensor<M>> {
    let normalised = x.cast(Dtype::F32)?.rms_norm(&weight.cast(Dtype::F32)?, epsilon)?;
    normalised.multiply(&gate.cast(Dtype::F32)?.silu()?)?.cast(x.dtype())
}
