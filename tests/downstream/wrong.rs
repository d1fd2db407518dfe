//! Mistakes across crates: a backward that belongs to a kernel of `cotangent_kernels`, a backward for one of its kernels
//! with heads and tokens the wrong way round, another crate's inference-only kernel in generic code, and an array of MLX.

use cotangent::{Graph, Result, Tensor, differentiable};

#[differentiable(backward = cotangent_kernels::mrope::mrope_backward, cases = [(N = 3)])]
pub fn negate(x: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: x.negative()? })
}

#[differentiable(backward_of = cotangent_kernels::mrope::mrope)]
pub fn turn_back<T: Float>(d_y: In![T; B, S, H, D], d_x: Out![T; B, S, H, D]) {
    Ok(Outputs { d_x: Some(d_y.clone()) })
}

pub fn layer<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    facade::decode(x)
}

pub fn scaled<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.multiply(&mlx_rs::Array::from_f32(2.0))
}

fn main() {}
