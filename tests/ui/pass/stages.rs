use cotangent::{Graph, Result, Tensor, differentiable, stage};

#[stage(grid = (ceil_div(N, 4), 1, 1), threads = (32, 1, 1), cases = [(N = 3)])]
fn scaled(x: In![f32; N], by: f32, y: Out![f32; N]) {
    metal! {
        for (uint i = 4 * thread_position_in_grid.x, end = min(i + 4, uint(N)); i < end; ++i) {
            y[i] = by * x[i];
        }
    }
}

#[differentiable(backward = twice_backward, fallback = by_operations, stages = [scaled], cases = [(N = 3)])]
pub fn twice(x: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: scaled(stages, x, 2.0)? })
}

#[differentiable(backward_of = twice, stages = [scaled])]
pub fn twice_backward(d_y: In![f32; N], d_x: Out![f32; N]) {
    Ok(Outputs { d_x: Some(scaled(stages, d_y, 2.0)?) })
}

fn by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.multiply(2.0)
}

pub fn main() {}
