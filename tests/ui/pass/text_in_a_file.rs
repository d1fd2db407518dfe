use cotangent::{Graph, Result, Tensor, differentiable};

#[differentiable(fallback = by_operations, grid = (N, 1, 1), threads = (256, 1, 1), cases = [(N = 7)])]
pub fn twice(x: In![f32; N], y: Out![f32; N]) {
    metal_file!("text_in_a_file.metal");
}

fn by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.multiply(2.0)
}

pub fn main() {}
