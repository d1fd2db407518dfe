use cotangent::differentiable;

#[differentiable(inference_only = "a test", cases = [(S = 5, W = 2), (S = 1, W = 3)])]
pub fn valid<const W: usize>(x: In![f32; S], y: Out![f32; S - W]) {
    Ok(Outputs { y: x.slice(0, 0, S - W as i32)? })
}

fn main() {}
