use cotangent::differentiable;

/// Fits in every port; but the forward, in another crate, has named its own backward.
#[differentiable(backward_of = cotangent_kernels::mrope::mrope)]
pub fn turn_back<T: Float>(
    positions: In![i32; 3, B, S],
    #[nodiff] turns: In![f32; 4, F],
    axes: In![i32; F],
    d_y: In![T; B, H, S, D],
    d_x: Out![T; B, H, S, D],
) {
    let _ = (positions, turns, axes);
    Ok(Outputs { d_x: Some(d_y.clone()) })
}

fn main() {}
