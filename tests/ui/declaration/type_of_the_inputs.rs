use cotangent::differentiable;

/// The kernel's own name for what it takes.
pub struct SumInputs;

#[differentiable(inference_only = "it adds", cases = [(N = 7)])]
pub fn sum(a: In![f32; N], b: In![f32; N], c: In![f32; N], d: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: a.add(b)?.add(c)?.add(d)? })
}

fn main() {}
