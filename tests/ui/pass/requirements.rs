use cotangent::{Graph, Result, Tensor, differentiable};

#[differentiable(
    fallback = by_operations,
    fallback_on = [metal, cuda],
    grid = (B * D / 4, 1, 1),
    threads = (64, 1, 1),
    requires = [D % 4 == 0, D <= 256],
    cases = [(B = 3, D = 12), (B = 1, D = 7)],
)]
pub fn twice(x: In![f32; B, D], y: Out![f32; B, D]) {
    metal! {
        uint i = 4 * thread_position_in_grid.x;
        for (uint k = 0; k < 4; ++k) y[i + k] = 2.0f * x[i + k];
    }
}

/// No size that it allows is odd, so none has to be tested.
#[differentiable(
    fallback = by_operations,
    grid = (N / 4, 1, 1),
    threads = (64, 1, 1),
    requires = [N % 4 == 0],
    cases = [(N = 12)],
)]
pub fn twice_flat(x: In![f32; N], y: Out![f32; N]) {
    metal! {
        uint i = 4 * thread_position_in_grid.x;
        for (uint k = 0; k < 4; ++k) y[i + k] = 2.0f * x[i + k];
    }
}

fn by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.multiply(2.0)
}

pub fn main() {}
