use cotangent::{Result, Tensor, Train, differentiable};

#[differentiable(fallback = by_operations, grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)])]
pub fn square(x: In![f32; N], y: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        y[i] = x[i] * x[i];
    }
}

fn by_operations(x: &Tensor<Train>) -> Result<Tensor<Train>> {
    x.square()
}

fn main() {}
