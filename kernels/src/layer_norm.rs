//! Layer normalisation (Ba, Kiros and Hinton, "Layer Normalization", 2016). Composed of operations; computed in float32.

use cotangent::{Dtype, Error, Graph, Result, Tensor};

/// `(x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias` over the last axis of `x` `[.., N]`, with `weight` and
/// `bias` `[N]`; the result has the dtype of `x`.
///
/// # Errors
/// [`Error::Shape`] if the last axis of `x` is not as long as the weight and the bias.
pub fn layer_norm<M: Graph>(x: &Tensor<M>, weight: &Tensor<M>, bias: &Tensor<M>, epsilon: f32) -> Result<Tensor<M>> {
    let width = x.shape().last().copied().unwrap_or_default();
    if *weight.shape() != [width] || *bias.shape() != [width] {
        return Err(Error::Shape {
            operation: "layer_norm",
            found: format!("{:?}, a weight of {:?} and a bias of {:?}", x.shape(), weight.shape(), bias.shape()),
            expected: format!("a weight and a bias of [{width}]"),
        });
    }
    let wide = x.cast(Dtype::F32)?;
    let centred = wide.subtract(&wide.mean_keep(&[-1])?)?;
    let scale = centred.square()?.mean_keep(&[-1])?.add(epsilon)?.rsqrt()?;
    let normed = centred.multiply(&scale)?.multiply(&weight.cast(Dtype::F32)?)?;
    normed.add(&bias.cast(Dtype::F32)?)?.cast(x.dtype())
}
