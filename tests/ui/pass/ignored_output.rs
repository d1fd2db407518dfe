use cotangent::differentiable;

#[differentiable(backward = scale_rows_backward, cases = [(B = 3, D = 4)])]
pub fn scale_rows(x: In![f32; B, D], w: In![f32; B, 1], y: Out![f32; B, D], total: Out![f32; B]) {
    Ok(Outputs { y: x.multiply(w)?, total: x.sum(&[1])? })
}

#[differentiable(backward_of = scale_rows, ignores(total))]
pub fn scale_rows_backward(
    x: In![f32; B, D],
    w: In![f32; B, 1],
    d_y: In![f32; B, D],
    d_x: Out![f32; B, D],
    d_w: Out![f32; B, 1],
) {
    Ok(Outputs { d_x: Some(d_y.multiply(w)?), d_w: Some(d_y.multiply(x)?.sum_keep(&[1])?) })
}

pub fn main() {}
