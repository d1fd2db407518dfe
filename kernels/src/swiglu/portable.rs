//! SwiGLU as a pair of bodies made of operations: what runs where texts do not.

use cotangent::{Graph, Result, Tensor, differentiable};

/// `silu(gate) * up` of flat operands.
///
/// It keeps the sigmoid for the backward pass and nothing else: MLX's own gradient keeps two products more.
#[differentiable(backward = portable_swiglu_backward, fallback = swiglu_by_operations, cases = [(N = 1), (N = 37)])]
pub fn portable_swiglu<T: Float>(gate: In![T; N], up: In![T; N], y: Out![T; N], #[saved] sigmoid: Out![T; N]) {
    let sigmoid = gate.sigmoid()?;
    Ok(Outputs { y: gate.multiply(&sigmoid)?.multiply(up)?, sigmoid })
}

/// d_gate = d_y up s (1 + gate (1 - s)), d_up = d_y gate s, with s the sigmoid of the gate.
#[differentiable(backward_of = portable_swiglu)]
pub fn portable_swiglu_backward<T: Float>(
    gate: In![T; N],
    up: In![T; N],
    sigmoid: In![T; N],
    d_y: In![T; N],
    d_gate: Out![T; N],
    d_up: Out![T; N],
) {
    let silu = gate.multiply(sigmoid)?;
    let slope = sigmoid.add(&silu.subtract(&silu.multiply(sigmoid)?)?)?;
    Ok(Outputs { d_gate: Some(slope.multiply(up)?.multiply(d_y)?), d_up: Some(silu.multiply(d_y)?) })
}

fn swiglu_by_operations<M: Graph>(gate: &Tensor<M>, up: &Tensor<M>) -> Result<Tensor<M>> {
    gate.silu()?.multiply(up)
}
