use cotangent::{Graph, Result, Tensor, differentiable};

#[differentiable(
    fallback = by_operations,
    requires = [D % 16 == 0],
    cases = [(B = 3, D = 20)],
)]
pub fn twice(x: In![f32; B, D], y: Out![f32; B, D]) {
    Ok(Outputs { y: x.multiply(2.0)? })
}

fn by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.multiply(2.0)
}

fn main() {}
