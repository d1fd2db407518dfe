use cotangent::{Graph, Result, Tensor, differentiable};

#[differentiable(fallback = by_operations, cases = [(N = 3)])]
pub fn double(x: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: x.multiply(2.0)? })
}

fn by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.multiply(2.0)
}

#[differentiable(backward_of = double)]
pub fn double_backward(d_y: In![f32; N], d_x: Out![f32; N]) {
    Ok(Outputs { d_x: Some(d_y.multiply(2.0)?) })
}

fn main() {}
