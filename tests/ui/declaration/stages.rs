use cotangent::{Graph, Result, Tensor, differentiable, stage};

#[stage(grid = (N, 1, 1), threads = (32, 1, 1), backward = nothing, cases = [(N = 3)])]
fn doubled(x: In![f32; N], y: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        y[i] = 2.0f * x[i];
    }
}

/// Calls a launch that it does not list: on a CPU it would fail instead of running its fallback.
#[differentiable(fallback = by_operations, cases = [(N = 3)])]
pub fn twice(x: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: doubled(stages, x)? })
}

fn by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.multiply(2.0)
}

fn main() {}
