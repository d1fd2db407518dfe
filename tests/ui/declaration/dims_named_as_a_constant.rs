use cotangent::differentiable;

#[differentiable(
    inference_only = "an example",
    dims = [C = N / 2],
    grid = (N, 1, 1),
    threads = (64, 1, 1),
    cases = [(N = 7, C = 2)],
)]
pub fn halved<const C: usize>(x: In![f32; N, C], y: Out![f32; N]) {
    metal! { uint i = thread_position_in_grid.x; y[i] = x[i * C]; }
}

fn main() {}
