use cotangent::differentiable;

#[differentiable(grid = (N, 1, 1), threads = (256, 1, 1), cases = [(N = 7)])]
pub fn double(x: In![f32; N], y: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        y[i] = 2.0f * x[i];
    }
}

fn main() {}
