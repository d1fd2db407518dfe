use cotangent::{Graph, Result, Tensor, differentiable};

#[differentiable(fallback = by_operations, grid = (N, 1, 1), threads = (256, 1, 1), cases = [(N = 7)])]
pub fn shifted(x: In![f32; N], bias: Option<In![f32; N]>, y: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        y[i] = x[i] + bias[i];
    }
}

fn by_operations<M: Graph>(x: &Tensor<M>, bias: Option<&Tensor<M>>) -> Result<Tensor<M>> {
    match bias {
        Some(bias) => x.add(bias),
        None => Ok(x.clone()),
    }
}

fn main() {}
