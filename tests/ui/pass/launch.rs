use cotangent::{Graph, Result, Tensor, differentiable};

#[differentiable(fallback = by_operations, grid = (N, 1, 1), threads = (256, 1, 1), cases = [(N = 7)])]
pub fn twice(x: In![f32; N], y: Out![f32; N]) {
    metal! {
        /// One thread an element.
        uint i = thread_position_in_grid.x;
        if (i >= uint(N)) return;
        y[i] = 2.0f * x[i];
    }
}

fn by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.multiply(2.0)
}

pub fn main() {}
