use cotangent::{Graph, Result, Tensor, differentiable};

#[differentiable(fallback = by_operations, grid = (N, 1, 1), threads = (256, 1, 1), cases = [(N = 7)])]
pub fn twice(x: In![f32; N], y: Out![f32; N]) {
    metal! {
        #define ROWS 64
        constexpr int COLUMNS = 2 * ROWS;
        threadgroup float first[ROWS][COLUMNS];
        threadgroup float second[4];
        uint i = thread_position_in_grid.x;
        first[0][0] = x[i];
        second[0] = 2.0f;
        y[i] = second[0] * first[0][0];
    }
}

fn by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.multiply(2.0)
}

fn main() {}
