use cotangent::differentiable;

#[differentiable(
    fallbak = by_operations,
    inference_only = "no reason",
    inference_only = "again",
    fallback = by_operations,
    grid = (N, 1),
    threads = 256,
    cases = [(N = 3)],
)]
pub fn twice(x: In![f32; N], y: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        y[i] = 2.0f * x[i];
    }
}

fn main() {}
