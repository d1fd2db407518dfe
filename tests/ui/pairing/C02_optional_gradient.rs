use cotangent::differentiable;

#[differentiable(backward = scaled_backward, cases = [(N = 3)])]
pub fn scaled(x: In![f32; N], w: Option<In![f32; N]>, y: Out![f32; N]) {
    Ok(Outputs { y: if let Some(w) = w { x.multiply(w)? } else { x.clone() } })
}

#[differentiable(backward_of = scaled)]
pub fn scaled_backward(
    x: In![f32; N],
    w: Option<In![f32; N]>,
    d_y: In![f32; N],
    d_x: Option<Out![f32; N]>,
    d_w: Out![f32; N],
) {
    let d_x = if let Some(w) = w { d_y.multiply(w)? } else { d_y.clone() };
    Ok(Outputs { d_x: Some(d_x), d_w: Some(d_y.multiply(x)?) })
}

fn main() {}
