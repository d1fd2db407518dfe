//! The gate of the feed-forward layers.

use cotangent::{Graph, Result, Tensor, differentiable};

/// `silu(gate) * up`, element by element, in the dtype of the two: `[.., I]`.
///
/// Shazeer, "GLU variants improve transformer" (2020).
///
/// # Errors
/// Shapes or dtypes that differ.
pub fn swiglu<M: Graph>(gate: &Tensor<M>, up: &Tensor<M>) -> Result<Tensor<M>> {
    // The kernel checks the rest; flattened, two shapes could look alike.
    if gate.shape() != up.shape() {
        return Err(cotangent::Error::Shape {
            operation: "swiglu",
            found: format!("{:?} and {:?}", gate.shape(), up.shape()),
            expected: "one shape".into(),
        });
    }
    swiglu_elements(&gate.reshape(&[-1])?, &up.reshape(&[-1])?)?.reshape(gate.shape())
}

/// [`swiglu`] of flat operands.
///
/// It keeps the sigmoid for the backward pass and nothing else: MLX's own gradient keeps two products more.
#[differentiable(backward = swiglu_backward, fallback = swiglu_by_operations, cases = [(N = 1), (N = 37)])]
pub fn swiglu_elements<T: Float>(gate: In![T; N], up: In![T; N], y: Out![T; N], #[saved] sigmoid: Out![T; N]) {
    let sigmoid = gate.sigmoid()?;
    Ok(Outputs { y: gate.multiply(&sigmoid)?.multiply(up)?, sigmoid })
}

/// d_gate = d_y up s (1 + gate (1 - s)), d_up = d_y gate s, with s the sigmoid of the gate.
#[differentiable(backward_of = swiglu_elements)]
pub fn swiglu_backward<T: Float>(
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
