//! Linear layers for a few rows, such as the drafted tokens that speculative decoding verifies (Leviathan, Kalman and Matias,
//! 2023).
//!
//! On GPUs, where kernel sources run, a row's result has the same bits for every number of rows that are computed with
//! it. So tokens are accepted as if each had been decoded alone. For this reason the sources also run where a product
//! of MLX's is faster. For many rows [`Tensor::linear`](cotangent::Tensor::linear) is faster.

mod dense;
mod quantised;
mod switch;

use cotangent::{Error, Graph, Indices, Result, Tensor};

pub use dense::{fused_verify_linear, fused_verify_linear_backward};
pub use quantised::{
    FusedVerifyQuantisedLinearInputs, fused_verify_quantised_linear, fused_verify_quantised_linear_backward,
};
pub use switch::{fused_verify_switch_linear, fused_verify_switch_linear_backward};

/// `x W^T`: `[.., inputs]` with a weight `[outputs, inputs]` of the same dtype, summed in float32.
///
/// # Errors
/// Shapes or dtypes that do not fit.
pub fn verify_linear<M: Graph>(x: &Tensor<M>, weight: &Tensor<M>) -> Result<Tensor<M>> {
    let (rows, outer) = rows_of("verify_linear", x)?;
    fused_verify_linear(&rows, weight)?.reshape(&[outer, weight.shape()[..1].to_vec()].concat())
}

/// `x W_e^T` for each token and each of the experts `e` it is routed to: `[N, inputs]`, or `[N, S, inputs]` where each of its
/// `S` experts has inputs of its own, with weights `[experts, outputs, inputs]` of the same dtype and expert numbers `[N, S]`,
/// to `[N, S, outputs]`, summed in float32.
///
/// # Errors
/// Shapes or dtypes that do not fit, [`Error::IndexOutOfRange`] for an expert that is not there.
pub fn verify_switch_linear<M: Graph>(x: &Tensor<M>, weight: &Tensor<M>, experts: &Indices) -> Result<Tensor<M>> {
    let operation = "verify_switch_linear";
    experts.check(operation, weight.shape().first().copied().unwrap_or_default())?;
    let slots = experts.shape().last().copied().unwrap_or_default();
    match *x.shape() {
        [tokens, inputs] => fused_verify_switch_linear(&x.reshape(&[tokens, 1, inputs])?, weight, experts),
        [_, own, _] if own == slots => fused_verify_switch_linear(x, weight, experts),
        ref other => Err(Error::Shape {
            operation,
            found: format!("{other:?} and experts {:?}", experts.shape()),
            expected: "[N, inputs] or [N, S, inputs], and experts [N, S]".into(),
        }),
    }
}

/// `x W^T` with `W = scale * code + bias`, each group of `group_size` inputs of an output having its own scale and bias, as
/// MLX quantizes (`affine`): `[.., inputs]`, scales and biases `[outputs, inputs / group_size]` of the same dtype, summed in
/// float32.
///
/// `codes` `[outputs, inputs * bits / 32]` are [packed words](Indices::from_words): `bits` bits a code, lowest first, codes
/// crossing from one word to the next where `bits` does not divide 32. Codes have no gradient; scales and biases do.
///
/// # Errors
/// Shapes or dtypes that do not fit.
pub fn verify_quantised_linear<M: Graph>(
    x: &Tensor<M>,
    codes: &Indices,
    scales: &Tensor<M>,
    biases: &Tensor<M>,
    group_size: usize,
    bits: usize,
) -> Result<Tensor<M>> {
    let (rows, outer) = rows_of("verify_quantised_linear", x)?;
    let y = fused_verify_quantised_linear(FusedVerifyQuantisedLinearInputs {
        x: &rows,
        codes,
        scales,
        biases,
        group: group_size,
        bits,
    })?;
    y.reshape(&[outer, scales.shape()[..1].to_vec()].concat())
}

/// `[rows, inputs]`, and the axes that became rows.
fn rows_of<M: Graph>(operation: &'static str, x: &Tensor<M>) -> Result<(Tensor<M>, Vec<i32>)> {
    match x.shape().split_last() {
        Some((inputs, outer)) => Ok((x.reshape(&[outer.iter().product(), *inputs])?, outer.to_vec())),
        None => Err(Error::Shape { operation, found: "a scalar".into(), expected: "[.., inputs]".into() }),
    }
}
