//! SwiGLU as a pair of bodies composed of operations, which runs where kernel sources do not.

use cotangent::host::{self, Formula};
use cotangent::{Graph, Result, Tensor, differentiable};

/// `silu(gate) * up` of flat operands.
///
/// Only the sigmoid is kept for the backward pass: MLX's own gradient keeps two products more.
#[differentiable(backward = portable_swiglu_backward, fallback = swiglu_by_operations, cases = [(N = 1), (N = 37)])]
pub fn portable_swiglu<T: Float>(gate: In![T; N], up: In![T; N], y: Out![T; N], #[saved] sigmoid: Out![T; N]) {
    if let Some([y, sigmoid]) = host::elementwise([gate, up], &Gated)? {
        return Ok(Outputs { y, sigmoid });
    }
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
    if let Some([d_gate, d_up]) = host::elementwise([gate, up, sigmoid, d_y], &GatedBackward)? {
        return Ok(Outputs { d_gate: Some(d_gate), d_up: Some(d_up) });
    }
    let silu = gate.multiply(sigmoid)?;
    let slope = sigmoid.add(&silu.subtract(&silu.multiply(sigmoid)?)?)?;
    Ok(Outputs { d_gate: Some(slope.multiply(up)?.multiply(d_y)?), d_up: Some(silu.multiply(d_y)?) })
}

fn swiglu_by_operations<M: Graph>(gate: &Tensor<M>, up: &Tensor<M>) -> Result<Tensor<M>> {
    gate.silu()?.multiply(up)
}

/// Output and sigmoid of an element.
struct Gated;

impl Formula<2, 2> for Gated {
    #[inline(always)]
    fn of(&self, [gate, up]: [f32; 2]) -> [f32; 2] {
        let sigmoid = host::sigmoid(gate);
        [gate * sigmoid * up, sigmoid]
    }
}

/// The formula of both gradients of an element.
struct GatedBackward;

impl Formula<4, 2> for GatedBackward {
    #[inline(always)]
    fn of(&self, [gate, up, sigmoid, d_y]: [f32; 4]) -> [f32; 2] {
        let silu = gate * sigmoid;
        [(sigmoid + silu * (1.0 - sigmoid)) * up * d_y, silu * d_y]
    }
}
