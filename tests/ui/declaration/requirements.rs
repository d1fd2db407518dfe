use cotangent::{Graph, Result, Tensor, differentiable};

#[differentiable(
    fallback = by_operations,
    fallback_on = [cpu],
    requires = [D % 16 == 0, W <= 256, D, D > 0 && D < 512, 4 == 4],
    cases = [(B = 3, D = 16)],
)]
pub fn twice(x: In![f32; B, D], y: Out![f32; B, D]) {
    Ok(Outputs { y: x.multiply(2.0)? })
}

#[differentiable(inference_only = "a test", fallback_on = [cuda], cases = [(N = 3)])]
pub fn no_fallback(x: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: x.clone() })
}

#[differentiable(backward = somewhere, fallback_on = [cuda], cases = [(N = 3)])]
pub fn nothing_to_prefer(x: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: x.clone() })
}

fn by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.multiply(2.0)
}

fn main() {}
