//! The short convolution before the gated delta rule: each channel over its last few inputs, then SiLU.
//!
//! With K taps it is a sum of K products of the shifted input. On the CPU that takes 60% of the time of MLX's
//! convolution and its gradient.

use cotangent::{Constant, Dtype, Error, Graph, Infer, Result, Tensor, differentiable};

/// `y[b, t, c] = silu(sum_j weight[c, 0, j] x[b, t - (K - 1) + j, c])`: `[B, T, C]` with a weight `[C, 1, K]`, K > 1.
///
/// Inputs before the first are those of `initial_window` `[B, K - 1, C]`, or 0. Computed in float32, in the dtype of
/// `x` otherwise.
///
/// # Errors
/// Shapes or dtypes that do not fit.
pub fn causal_conv_silu<M: Graph>(
    x: &Tensor<M>,
    weight: &Tensor<M>,
    initial_window: Option<&Tensor<M>>,
) -> Result<Tensor<M>> {
    match (x.shape(), weight.shape()) {
        (&[_, _, channels], &[filters, 1, taps]) if channels == filters && taps > 1 => {
            let inputs = with_window(x, initial_window, taps)?.cast(Dtype::F32)?;
            conv_silu(&inputs, &weight.cast(Dtype::F32)?)?.cast(x.dtype())
        }
        (x, weight) => {
            Err(shape_error(format!("{x:?} and {weight:?}"), "[B, T, C] and a weight [C, 1, K] with K > 1".into()))
        }
    }
}

/// The last `taps - 1` inputs `[B, taps - 1, C]`: the `initial_window` of what follows `x`.
///
/// # Errors
/// Shapes or dtypes that do not fit.
pub fn causal_conv_window<M: Graph>(x: &Tensor<M>, initial_window: Option<&Tensor<M>>, taps: i32) -> Result<Tensor<M>> {
    let inputs = with_window(x, initial_window, taps)?;
    let length = inputs.dimension(1);
    inputs.slice(1, length - (taps - 1), length)
}

/// `[B, K - 1 + T, C]`.
fn with_window<M: Graph>(x: &Tensor<M>, window: Option<&Tensor<M>>, taps: i32) -> Result<Tensor<M>> {
    let &[rows, _, channels] = x.shape() else {
        return Err(shape_error(format!("{:?}", x.shape()), "[B, T, C]".into()));
    };
    let shape = [rows, taps - 1, channels];
    match window {
        Some(window) if window.shape() != shape => {
            Err(shape_error(format!("a window {:?}", window.shape()), format!("{shape:?}")))
        }
        Some(window) => Tensor::concatenate(&[window, x], 1),
        None => Tensor::concatenate(&[&Constant::full(&shape, 0.0, x.dtype())?.to_tensor(), x], 1),
    }
}

fn shape_error(found: String, expected: String) -> Error {
    Error::Shape { operation: "causal_conv_silu", found, expected }
}

/// The convolution of `S` inputs, the first K - 1 of which only lie behind others, then SiLU.
#[differentiable(
    backward = conv_silu_backward,
    fallback = conv_silu_by_operations,
    cases = [(B = 1, S = 4, C = 3, K = 4), (B = 2, S = 9, C = 5, K = 3)],
)]
pub fn conv_silu(
    x: In![f32; B, S, C],
    weight: In![f32; C, 1, K],
    y: Out![f32; B, S - K + 1, C],
    #[saved] sigmoid: Out![f32; B, S - K + 1, C],
) {
    let mut sum: Option<Tensor<Infer>> = None;
    for (tap, weight) in (0..).zip(taps(weight)?) {
        let product = x.slice(1, tap, tap + S - K + 1)?.multiply(&weight)?;
        sum = Some(sum.map_or(Ok(product.clone()), |sum| sum.add(&product))?);
    }
    let sum = sum.ok_or_else(|| shape_error("no taps".into(), "K > 1".into()))?;
    let sigmoid = sum.sigmoid()?;
    Ok(Outputs { y: sum.multiply(&sigmoid)?, sigmoid })
}

/// With c the sum before the SiLU and s its sigmoid: dc = d_y (s + y (1 - s)), dx[t] = sum_j weight_j dc[t - j],
/// dweight_j = sum_t dc[t] x[t + j].
#[differentiable(backward_of = conv_silu)]
pub fn conv_silu_backward(
    x: In![f32; B, S, C],
    weight: In![f32; C, 1, K],
    y: In![f32; B, S - K + 1, C],
    sigmoid: In![f32; B, S - K + 1, C],
    d_y: In![f32; B, S - K + 1, C],
    d_x: Out![f32; B, S, C],
    d_weight: Out![f32; C, 1, K],
) {
    let slope = sigmoid.add(&y.subtract(&y.multiply(sigmoid)?)?)?;
    let d_sum = d_y.multiply(&slope)?;
    let mut d_x: Option<Tensor<Infer>> = None;
    let mut d_taps: Vec<Tensor<Infer>> = Vec::new();
    let padded = d_sum.pad(1, K - 1, K - 1)?;
    for (tap, weight) in (0..).zip(taps(weight)?) {
        let product = padded.slice(1, K - 1 - tap, K - 1 - tap + S)?.multiply(&weight)?;
        d_x = Some(d_x.map_or(Ok(product.clone()), |sum| sum.add(&product))?);
        if wants_d_weight {
            d_taps.push(x.slice(1, tap, tap + S - K + 1)?.multiply(&d_sum)?.sum(&[0, 1])?);
        }
    }
    let d_weight =
        if wants_d_weight { Some(Tensor::stack(&d_taps.iter().collect::<Vec<_>>(), 1)?.expand_dims(1)?) } else { None };
    Ok(Outputs { d_x, d_weight })
}

/// Each tap's weights `[C]`, contiguous.
fn taps(weight: &Tensor<Infer>) -> Result<Vec<Tensor<Infer>>> {
    let channels = weight.dimension(0);
    (0..weight.dimension(2)).map(|tap| weight.slice(2, tap, tap + 1)?.reshape(&[channels])).collect()
}

fn conv_silu_by_operations<M: Graph>(x: &Tensor<M>, weight: &Tensor<M>) -> Result<Tensor<M>> {
    x.depthwise_conv1d(weight)?.silu()
}
