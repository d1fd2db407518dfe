//! The convolution as a pair of bodies composed of operations, which runs where kernel sources do not.
//!
//! With K taps the convolution is a sum of K products of the shifted input. On the CPU this takes 60% of the time of
//! MLX's convolution and its gradient.

use cotangent::host::{self, Formula};
use cotangent::{Constant, Dtype, Graph, Infer, Mask, Result, Tensor, differentiable};

use super::{FusedCausalConvInputs, shape_error};

/// The convolution with all that it may be given; without packed documents, by [`portable_conv_silu`].
pub(super) fn portable_causal_conv<M: Graph>(inputs: FusedCausalConvInputs<'_, M>) -> Result<Tensor<M>> {
    let FusedCausalConvInputs { x, weight, window, mask, starts } = inputs;
    let taps = weight.dimension(2);
    let masked = match mask {
        Some(mask) => x.select(&mask.reshape(&[x.dimension(0), x.dimension(1), 1])?, 0.0)?,
        None => x.clone(),
    };
    let inputs = with_window(&masked, window, taps)?.cast(Dtype::F32)?;
    match starts {
        None => portable_conv_silu(&inputs, weight)?,
        Some(starts) => conv_of_documents(&inputs, weight, starts)?,
    }
    .cast(x.dtype())
}

/// The convolution of inputs `[B, K - 1 + T, C]` in which documents begin at `starts` `[B, T]`.
fn conv_of_documents<M: Graph>(inputs: &Tensor<M>, weight: &Tensor<M>, starts: &Mask) -> Result<Tensor<M>> {
    let (taps, channels, tokens) = (weight.dimension(2), weight.dimension(0), starts.shape()[1]);
    let rows = inputs.dimension(0);
    let zero = Constant::full(&[rows, tokens], 0.0, Dtype::F32)?.to_tensor::<M>();
    // Documents are numbered: a token sees only inputs of its own document's number.
    let documents = zero.add(1.0)?.select(starts, &zero)?.cumsum(1)?;
    let padded = documents.pad(1, taps - 1, 0)?;
    let mut sum: Option<Tensor<M>> = None;
    for tap in 0..taps {
        let begun_since = documents.subtract(&padded.slice(1, tap, tap + tokens)?)?;
        let sees = begun_since.negative()?.add(1.0)?.maximum(0.0)?.reshape(&[rows, tokens, 1])?;
        let weight = weight.slice(2, tap, tap + 1)?.reshape(&[channels])?;
        let product = inputs.slice(1, tap, tap + tokens)?.multiply(&weight)?.multiply(&sees)?;
        sum = Some(sum.map_or(Ok(product.clone()), |sum| sum.add(&product))?);
    }
    sum.ok_or_else(|| shape_error("no taps".into(), "K > 1".into()))?.silu()
}

/// `[B, K - 1 + T, C]`.
pub(super) fn with_window<M: Graph>(x: &Tensor<M>, window: Option<&Tensor<M>>, taps: i32) -> Result<Tensor<M>> {
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

/// Computes the convolution of `S` inputs, the first K - 1 of which only precede others, then SiLU.
#[differentiable(
    backward = portable_conv_silu_backward,
    fallback = conv_silu_by_operations,
    cases = [(B = 1, S = 4, C = 3, K = 4), (B = 2, S = 9, C = 5, K = 3)],
)]
pub fn portable_conv_silu(
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
    if let Some([y, sigmoid]) = host::elementwise([&sum], &Silu)? {
        return Ok(Outputs { y, sigmoid });
    }
    let sigmoid = sum.sigmoid()?;
    Ok(Outputs { y: sum.multiply(&sigmoid)?, sigmoid })
}

/// Computes the gradients of [`portable_conv_silu`]. With c the sum before the SiLU and s its sigmoid: dc = d_y (s + y
/// (1 - s)), dx[t] = sum_j weight_j dc[t - j], dweight_j = sum_t dc[t] x[t + j].
#[differentiable(backward_of = portable_conv_silu)]
pub fn portable_conv_silu_backward(
    x: In![f32; B, S, C],
    weight: In![f32; C, 1, K],
    y: In![f32; B, S - K + 1, C],
    sigmoid: In![f32; B, S - K + 1, C],
    d_y: In![f32; B, S - K + 1, C],
    d_x: Out![f32; B, S, C],
    d_weight: Out![f32; C, 1, K],
) {
    let d_sum = match host::elementwise([y, sigmoid, d_y], &SiluBackward)? {
        Some([d_sum]) => d_sum,
        None => d_y.multiply(&sigmoid.add(&y.subtract(&y.multiply(sigmoid)?)?)?)?,
    };
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

/// `silu(x)` and the sigmoid of an element.
struct Silu;

impl Formula<1, 2> for Silu {
    #[inline(always)]
    fn of(&self, [x]: [f32; 1]) -> [f32; 2] {
        let sigmoid = host::sigmoid(x);
        [x * sigmoid, sigmoid]
    }
}

/// The gradient of an element from `silu(x)`, the sigmoid and the cotangent.
struct SiluBackward;

impl Formula<3, 1> for SiluBackward {
    #[inline(always)]
    fn of(&self, [y, sigmoid, d_y]: [f32; 3]) -> [f32; 1] {
        [d_y * (sigmoid + y * (1.0 - sigmoid))]
    }
}
