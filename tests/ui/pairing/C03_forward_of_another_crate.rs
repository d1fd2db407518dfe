use cotangent::differentiable;

/// Tokens before heads: not how the forward, in another crate, lays them out.
#[differentiable(backward_of = cotangent_kernels::mrope::mrope)]
pub fn turn_back<T: Float>(d_y: In![T; B, S, H, D], d_x: Out![T; B, S, H, D]) {
    Ok(Outputs { d_x: Some(d_y.clone()) })
}

fn main() {}
