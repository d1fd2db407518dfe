//! A linear layer with a low-rank adapter beside it (Hu et al., "LoRA: low-rank adaptation of large language models", 2021).
//!
//! The adapter's product is added to the layer's in place, with one pass over the outputs instead of three. The same
//! holds for its part of the gradient of the inputs. Matrix products are MLX's own on every backend.

use cotangent::{Error, Graph, Result, Tensor, differentiable};

/// `y = x W^T + scale (x A) B`: inputs `[.., I]`, a weight `[O, I]`, an adapter `A` `[I, R]` and `B` `[R, O]` of any float
/// type, to `[.., O]` in the dtype of `x`.
///
/// The gradient of a weight that does not train is not computed.
///
/// # Errors
/// Shapes or dtypes that do not fit.
pub fn adapted_linear<M: Graph>(
    x: &Tensor<M>,
    weight: &Tensor<M>,
    lora_a: &Tensor<M>,
    lora_b: &Tensor<M>,
    scale: f32,
) -> Result<Tensor<M>> {
    let (Some((inputs, outer)), [outputs, _]) = (x.shape().split_last(), weight.shape()) else {
        return Err(Error::Shape {
            operation: "adapted_linear",
            found: format!("{:?} and {:?}", x.shape(), weight.shape()),
            expected: "[.., inputs] and [outputs, inputs]".into(),
        });
    };
    let shape = [outer, &[*outputs]].concat();
    let rows = x.reshape(&[outer.iter().product(), *inputs])?;
    let (lora_a, lora_b) = (lora_a.cast(x.dtype())?, lora_b.cast(x.dtype())?);
    portable_adapted_linear(PortableAdaptedLinearInputs { x: &rows, weight, lora_a: &lora_a, lora_b: &lora_b, scale })?
        .reshape(&shape)
}

/// [`adapted_linear`] of rows. It keeps `x A`, which is small.
#[differentiable(
    backward = portable_adapted_linear_backward,
    fallback = adapted_linear_by_operations,
    expensive,
    cases = [(N = 1, I = 3, O = 2, R = 1), (N = 7, I = 5, O = 9, R = 2)],
)]
pub fn portable_adapted_linear<T: Float>(
    x: In![T; N, I],
    weight: In![T; O, I],
    lora_a: In![T; I, R],
    lora_b: In![T; R, O],
    scale: f32,
    y: Out![T; N, O],
    #[saved] down: Out![T; N, R],
) {
    let down = x.matmul(lora_a)?;
    Ok(Outputs { y: x.linear(weight)?.add_product(&down, lora_b, scale)?, down })
}

/// Computes the gradients of [`portable_adapted_linear`]. With d = d_y B^T: d_x = d_y W + scale d A^T, d_A = scale x^T
/// d, d_B = scale (x A)^T d_y, d_W = d_y^T x.
#[differentiable(backward_of = portable_adapted_linear)]
pub fn portable_adapted_linear_backward<T: Float>(
    x: In![T; N, I],
    weight: In![T; O, I],
    lora_a: In![T; I, R],
    lora_b: In![T; R, O],
    down: In![T; N, R],
    d_y: In![T; N, O],
    scale: f32,
    d_x: Out![T; N, I],
    d_weight: Out![T; O, I],
    d_lora_a: Out![T; I, R],
    d_lora_b: Out![T; R, O],
) {
    let d_down = d_y.matmul(&lora_b.swap_axes(0, 1)?)?;
    let d_x =
        if wants_d_x { Some(d_y.matmul(weight)?.add_product(&d_down, &lora_a.swap_axes(0, 1)?, scale)?) } else { None };
    let d_weight = if wants_d_weight { Some(d_y.swap_axes(0, 1)?.matmul(x)?) } else { None };
    let scaled = |left: &Tensor<_>, right: &Tensor<_>, like: &Tensor<_>| {
        left.swap_axes(0, 1)?.scaled_product(right, scale, like)
    };
    let d_lora_a = if wants_d_lora_a { Some(scaled(x, &d_down, lora_a)?) } else { None };
    let d_lora_b = if wants_d_lora_b { Some(scaled(down, d_y, lora_b)?) } else { None };
    Ok(Outputs { d_x, d_weight, d_lora_a, d_lora_b })
}

fn adapted_linear_by_operations<M: Graph>(inputs: PortableAdaptedLinearInputs<'_, M>) -> Result<Tensor<M>> {
    let PortableAdaptedLinearInputs { x, weight, lora_a, lora_b, scale } = inputs;
    x.linear(weight)?.add(&x.matmul(lora_a)?.multiply(scale)?.matmul(lora_b)?)
}
