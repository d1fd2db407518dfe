use cotangent::kernel::InferenceMode;
use cotangent::{Result, Tensor, Train, differentiable};

#[differentiable(
    inference_only = "it needs a left-padded cache",
    grid = (N, 1, 1),
    threads = (256, 1, 1),
    cases = [(N = 7)],
)]
pub fn decode(x: In![f32; N], y: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        y[i] = 2.0f * x[i];
    }
}

impl InferenceMode<decode> for Train {}

fn loss(x: &Tensor<Train>) -> Result<Tensor<Train>> {
    decode(x)
}

fn main() {}
