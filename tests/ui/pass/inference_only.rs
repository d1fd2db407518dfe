use cotangent::kernel::InferenceMode;
use cotangent::{Graph, Infer, Result, Tensor, differentiable};

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

fn generate(x: &Tensor<Infer>) -> Result<Tensor<Infer>> {
    decode(x)
}

fn generic<M: Graph + InferenceMode<decode>>(x: &Tensor<M>) -> Result<Tensor<M>> {
    decode(x)
}

pub fn main() {
    let _ = (generate, generic::<Infer>);
}
