use cotangent::differentiable;

#[differentiable(backward = masked_backward, cases = [(N = 3)])]
pub fn masked(x: In![f32; N], keep: Option<In![bool; N]>, y: Out![f32; N]) {
    Ok(Outputs { y: if let Some(keep) = keep { x.select(keep, 0.0)? } else { x.clone() } })
}

#[differentiable(backward_of = masked)]
pub fn masked_backward(x: Option<In![f32; N]>, keep: In![bool; N], d_y: In![f32; N], d_x: Out![f32; N]) {
    let _ = x;
    Ok(Outputs { d_x: Some(d_y.select(keep, 0.0)?) })
}

fn main() {}
