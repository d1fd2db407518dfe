use cotangent::{Graph, Result, Tensor, differentiable};

#[differentiable(backward = twice_backward, fallback = by_operations, grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)])]
pub fn twice(x: In![f32; N], y: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        y[i] = 2.0f * x[i];
    }
}

#[differentiable(backward_of = twice, grid = (N, 1, 1), threads = (64, 1, 1))]
pub fn twice_backward(d_y: In![f32; N], d_x: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        float cotangent = d_y[i];
        (void)cotangent;
        d_x[i] = 2.0f;
    }
}

fn by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.multiply(2.0)
}

fn main() {}
