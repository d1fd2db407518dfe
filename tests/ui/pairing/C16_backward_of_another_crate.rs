use cotangent::differentiable;

#[differentiable(backward = cotangent_kernels::mrope::mrope_backward, cases = [(N = 3)])]
pub fn negate(x: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: x.negative()? })
}

fn main() {}
