//! Two mistakes across crates: a backward that belongs to a kernel of `cotangent_kernels`, and a backward for one of its
//! kernels with heads and tokens the wrong way round.

use cotangent::differentiable;

#[differentiable(backward = cotangent_kernels::mrope::mrope_backward, cases = [(N = 3)])]
pub fn negate(x: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: x.negative()? })
}

#[differentiable(backward_of = cotangent_kernels::mrope::mrope)]
pub fn turn_back<T: Float>(d_y: In![T; B, S, H, D], d_x: Out![T; B, S, H, D]) {
    Ok(Outputs { d_x: Some(d_y.clone()) })
}

fn main() {}
