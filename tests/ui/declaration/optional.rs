use cotangent::{Graph, Mask, Result, Tensor, differentiable};

#[differentiable(fallback = by_operations, cases = [(B = 3, S = 7)])]
pub fn masked<T: Float>(
    x: In![f32; B],
    mask: Option<In![bool; B, S]>,
    bias: Option<In![T; B]>,
    scale: Option<f32>,
    y: Option<Out![f32; B]>,
) {
    Ok(Outputs { y: by_operations(x, mask, bias, scale)? })
}

#[differentiable(inference_only = "a test", cases = [(B = 3)])]
pub fn no_dtype<T: Float>(x: In![f32; B], y: Out![T; B]) {
    Ok(Outputs { y: x.clone() })
}

fn by_operations<M: Graph>(
    x: &Tensor<M>,
    _: Option<&Mask>,
    _: Option<&Tensor<M>>,
    _: Option<f32>,
) -> Result<Tensor<M>> {
    x.multiply(2.0)
}

fn main() {}
