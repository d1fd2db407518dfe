use cotangent::differentiable;

#[differentiable(inference_only = "it samples", grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)])]
pub fn grow(x: In![f32; N], y: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        y[i] = expf(x[i]);
    }
}

fn main() {}
