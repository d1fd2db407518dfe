//! The short convolution before the gated delta rule: each channel over its last few inputs, then SiLU.

use cotangent::{Constant, Error, Graph, Result, Tensor};

const OPERATION: &str = "causal_conv_silu";

/// `y[b, t, c] = silu(sum_j weight[c, 0, j] x[b, t - (K - 1) + j, c])`: `[B, T, C]` with a weight `[C, 1, K]`.
///
/// Inputs before the first are those of `initial_window` `[B, K - 1, C]`, or 0.
///
/// # Errors
/// Shapes or dtypes that do not fit.
pub fn causal_conv_silu<M: Graph>(
    x: &Tensor<M>,
    weight: &Tensor<M>,
    initial_window: Option<&Tensor<M>>,
) -> Result<Tensor<M>> {
    let taps = check(x, weight)?;
    with_window(x, initial_window, taps)?.depthwise_conv1d(weight)?.silu()
}

/// The last `taps - 1` inputs `[B, taps - 1, C]`: the `initial_window` of what follows `x`.
///
/// # Errors
/// Shapes or dtypes that do not fit.
pub fn causal_conv_window<M: Graph>(
    x: &Tensor<M>,
    initial_window: Option<&Tensor<M>>,
    taps: i32,
) -> Result<Tensor<M>> {
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

/// The number of taps.
fn check<M: Graph>(x: &Tensor<M>, weight: &Tensor<M>) -> Result<i32> {
    match (x.shape(), weight.shape()) {
        (&[_, _, channels], &[filters, 1, taps]) if channels == filters && taps > 0 => Ok(taps),
        (x, weight) => Err(shape_error(format!("{x:?} and {weight:?}"), "[B, T, C] and a weight [C, 1, K]".into())),
    }
}

fn shape_error(found: String, expected: String) -> Error {
    Error::Shape { operation: OPERATION, found, expected }
}
