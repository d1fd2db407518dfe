use cotangent::differentiable;

#[differentiable(
    inference_only = "a test",
    requires = [D % 16 == 0],
    cases = [(B = 3, D = 16), (B = 1, D = 20)],
)]
pub fn twice(x: In![f32; B, D], y: Out![f32; B, D]) {
    Ok(Outputs { y: x.multiply(2.0)? })
}

fn main() {}
