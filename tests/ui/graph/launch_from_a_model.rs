use cotangent::{Graph, Result, Tensor, stage};

#[stage(grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)])]
fn doubled(x: In![f32; N], y: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        y[i] = 2.0f * x[i];
    }
}

/// A launch has no gradient of its own: only the body of a kernel that has one may make it.
fn layer<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    doubled(x)
}

fn main() {}
