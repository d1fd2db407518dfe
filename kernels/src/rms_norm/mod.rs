//! Root-mean-square normalisation, in the three forms of the Qwen models (Zhang and Sennrich, "Root mean square layer
//! normalization", 2019).
//!
//! All compute in float32, round once, and return the dtype of `x`. Weights are float32, because they train best there,
//! and keep the form that the checkpoint has.

mod fused;
mod gradients;

use cotangent::{Dtype, Error, Graph, Result, Tensor};

pub use fused::{fused_norm, fused_norm_backward};

/// `weight * x / sqrt(mean(x^2) + epsilon)` along the last axis: `[.., n]` with a weight `[n]`.
///
/// # Errors
/// A weight that is not as long as the last axis.
pub fn rms_norm<M: Graph>(x: &Tensor<M>, weight: &Tensor<M>, epsilon: f32) -> Result<Tensor<M>> {
    centred_at(0.0, x, weight, epsilon)
}

/// `(1 + weight) * x / sqrt(mean(x^2) + epsilon)` along the last axis: `[.., n]` with a weight `[n]`.
///
/// # Errors
/// A weight that is not as long as the last axis.
pub fn rms_norm_zero_centred<M: Graph>(x: &Tensor<M>, weight: &Tensor<M>, epsilon: f32) -> Result<Tensor<M>> {
    centred_at(1.0, x, weight, epsilon)
}

/// `(centre + weight) * x / sqrt(mean(x^2) + epsilon)`.
fn centred_at<M: Graph>(centre: f32, x: &Tensor<M>, weight: &Tensor<M>, epsilon: f32) -> Result<Tensor<M>> {
    let heads = x.reshape(&heads_of("rms_norm", x.shape())?)?;
    fused_norm(&heads, None, Some(&weight.cast(Dtype::F32)?), 1.0, centre, epsilon, true)?.reshape(x.shape())
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
    // Two different shapes could look alike when they are flattened.
    if gate.shape() != x.shape() {
        return Err(Error::Shape {
            operation: "rms_norm_gated",
            found: format!("{:?} gated by {:?}", x.shape(), gate.shape()),
            expected: "one shape".into(),
        });
    }
    let shape = heads_of("rms_norm_gated", x.shape())?;
    let (heads, gate, weight) = (x.reshape(&shape)?, gate.reshape(&shape)?, weight.cast(Dtype::F32)?);
    fused_norm(&heads, Some(&gate), Some(&weight), 1.0, 0.0, epsilon, true)?.reshape(x.shape())
}

/// `[.., heads, width]` with one axis in front: this much can be a view of a slice of a wider projection, so that the
/// texts read it where it lies.
pub(crate) fn heads_of(operation: &'static str, shape: &[i32]) -> Result<[i32; 3]> {
    match *shape {
        [] => Err(Error::Shape { operation, found: "a scalar".into(), expected: "[.., n]".into() }),
        [width] => Ok([1, 1, width]),
        [ref outer @ .., heads, width] => Ok([outer.iter().product(), heads, width]),
    }
}
