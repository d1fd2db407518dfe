use cotangent::differentiable;

/// The kernel's own name for what it returns.
pub struct SplitOutputs;

#[differentiable(inference_only = "it routes", cases = [(N = 7)])]
pub fn split(x: In![f32; N], y: Out![f32; N], z: Out![f32; N]) {
    Ok(Outputs { y: x.clone(), z: x.square()? })
}

fn main() {}
