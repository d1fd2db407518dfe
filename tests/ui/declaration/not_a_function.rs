use cotangent::differentiable;

#[differentiable(fallback = nothing)]
pub struct Kernel;

fn main() {
    let _ = Kernel;
}
