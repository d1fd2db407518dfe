//! The short convolution before the gated delta rule: each channel over its last few inputs, then SiLU.

mod fused;
mod portable;

use cotangent::{Dtype, Error, Graph, Result, Tensor};

use crate::documents::Documents;

pub use fused::{FusedCausalConvInputs, fused_causal_conv, fused_causal_conv_backward};
pub use portable::{portable_conv_silu, portable_conv_silu_backward};

/// `y[b, t, c] = silu(sum_j weight[c, 0, j] x[b, t - (K - 1) + j, c])`: `[B, T, C]` with a weight `[C, 1, K]`, K > 1.
///
/// Inputs before the first are those of `initial_window` `[B, K - 1, C]`, which has a gradient, or 0. Computed in float32, in
/// the dtype of `x` otherwise. [`Documents`] say which tokens count, and where documents begin.
///
/// # Errors
/// Shapes or dtypes that do not fit.
pub fn causal_conv_silu<M: Graph>(
    x: &Tensor<M>,
    weight: &Tensor<M>,
    initial_window: Option<&Tensor<M>>,
    documents: Option<&Documents>,
) -> Result<Tensor<M>> {
    match (x.shape(), weight.shape()) {
        (&[rows, tokens, channels], &[filters, 1, taps]) if channels == filters && taps > 1 => {
            if let Some(documents) = documents {
                documents.check("causal_conv_silu", [rows, tokens])?;
            }
            fused_causal_conv(FusedCausalConvInputs {
                x,
                weight: &weight.cast(Dtype::F32)?,
                window: initial_window,
                mask: documents.and_then(Documents::counts),
                starts: documents.and_then(Documents::starts),
            })
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
    let inputs = portable::with_window(x, initial_window, taps)?;
    let length = inputs.dimension(1);
    inputs.slice(1, length - (taps - 1), length)
}

fn shape_error(found: String, expected: String) -> Error {
    Error::Shape { operation: "causal_conv_silu", found, expected }
}
