use cotangent::{Graph, Result, Tensor, differentiable, stage};

#[differentiable(fallback = by_operations, cases = [(N = 7)])]
pub fn square(x: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: x.square()? })
}

#[stage(grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)])]
fn square(x: In![f32; N], y: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        y[i] = x[i] * x[i];
    }
}

fn by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.square()
}

fn main() {}
