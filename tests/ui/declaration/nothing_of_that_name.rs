use cotangent::differentiable;

#[differentiable(backward_of = nothing)]
pub fn twice_backward(x: In![f32; N], d_y: In![f32; N], d_x: Out![f32; N]) {
    Ok(Outputs { d_x: Some(d_y.multiply(x)?) })
}

fn main() {}
