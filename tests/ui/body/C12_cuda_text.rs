use cotangent::{Graph, Result, Tensor, differentiable};

#[differentiable(fallback = by_operations, grid = (N, 1, 1), threads = (256, 1, 1), cases = [(N = 7)])]
pub fn scaled(x: In![f32; N], w: In![f32; N], y: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        y[i] = w[i] * x[i];
    }
    cuda! {
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i < N) { y[i] = x[i]; }
    }
}

fn by_operations<M: Graph>(x: &Tensor<M>, w: &Tensor<M>) -> Result<Tensor<M>> {
    x.multiply(w)
}

fn main() {}
