use cotangent::differentiable;

#[differentiable(backward = normalise_backward, cases = [(B = 3, D = 4)])]
pub fn normalise(x: In![f32; B, D], y: Out![f32; B, D], #[saved] scale: Out![f32; B, 1]) {
    let scale = x.square()?.sum_keep(&[1])?.rsqrt()?;
    Ok(Outputs { y: x.multiply(&scale)?, scale })
}

#[differentiable(backward_of = normalise)]
pub fn normalise_backward(y: In![f32; B, D], scale: In![f32; B, 1], d_y: In![f32; B, D], d_x: Out![f32; B, D]) {
    let along = d_y.multiply(y)?.sum_keep(&[1])?;
    Ok(Outputs { d_x: Some(d_y.subtract(&y.multiply(&along)?)?.multiply(scale)?) })
}

pub fn main() {}
