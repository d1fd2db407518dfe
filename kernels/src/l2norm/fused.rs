//! The l2 norm in one launch each way.

use cotangent::{Dtype, Graph, Result, Tensor, differentiable};

/// `scale * x * r` with `r = 1 / sqrt(sum(x^2) + epsilon)` of each head; a simdgroup has a head.
#[differentiable(
    backward = fused_l2norm_backward,
    fallback = l2norm_by_operations,
    strided,
    grid = (256 * ceil_div(N * H, 8), 1, 1),
    threads = (256, 1, 1),
    cases = [(N = 1, H = 1, D = 1), (N = 3, H = 2, D = 8), (N = 5, H = 2, D = 77)],
)]
pub fn fused_l2norm<T: Float>(x: In![T; N, H, D], scale: f32, epsilon: f32, y: Out![T; N, H, D]) {
    metal! {
        uint row = threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup;
        uint lane = thread_index_in_simdgroup;
        if (row >= uint(N * H)) { return; }
        ulong x_row = ulong(row / H) * x_strides[0] + ulong(row % H) * x_strides[1];
        float squares = 0.0f;
        for (uint column = lane; column < uint(D); column += 32u) {
            float value = float(x[x_row + column * x_strides[2]]);
            squares += value * value;
        }
        float factor = rsqrt(simd_sum(squares) + epsilon);
        for (uint column = lane; column < uint(D); column += 32u) {
            y[ulong(row) * D + column] = T(float(x[x_row + column * x_strides[2]]) * factor * scale);
        }
    }
}

/// d_x = scale r (d_y - x r^2 (x . d_y)). It reads x anyway, so r is computed again and not kept.
#[differentiable(
    backward_of = fused_l2norm,
    strided,
    grid = (256 * ceil_div(N * H, 8), 1, 1),
    threads = (256, 1, 1),
)]
pub fn fused_l2norm_backward<T: Float>(
    x: In![T; N, H, D],
    d_y: In![T; N, H, D],
    scale: f32,
    epsilon: f32,
    d_x: Out![T; N, H, D],
) {
    metal! {
        uint row = threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup;
        uint lane = thread_index_in_simdgroup;
        if (row >= uint(N * H)) { return; }
        uint token = row / H;
        uint head = row % H;
        ulong x_row = ulong(token) * x_strides[0] + ulong(head) * x_strides[1];
        ulong d_y_row = ulong(token) * d_y_strides[0] + ulong(head) * d_y_strides[1];
        float squares = 0.0f;
        float along = 0.0f;
        for (uint column = lane; column < uint(D); column += 32u) {
            float value = float(x[x_row + column * x_strides[2]]);
            squares += value * value;
            along += float(d_y[d_y_row + column * d_y_strides[2]]) * value;
        }
        float factor = rsqrt(simd_sum(squares) + epsilon);
        along = simd_sum(along) * factor * factor;
        for (uint column = lane; column < uint(D); column += 32u) {
            float value = float(x[x_row + column * x_strides[2]]);
            float slope = float(d_y[d_y_row + column * d_y_strides[2]]);
            d_x[ulong(row) * D + column] = T(scale * factor * (slope - value * along));
        }
    }
}

/// The same norm, composed of operations.
fn l2norm_by_operations<M: Graph>(x: &Tensor<M>, scale: f32, epsilon: f32) -> Result<Tensor<M>> {
    let wide = x.cast(Dtype::F32)?;
    let factor = wide.square()?.sum_keep(&[-1])?.add(epsilon)?.rsqrt()?;
    // The factor is a number a vector: scaling it is cheaper than scaling the result.
    let factor = if scale == 1.0 { factor } else { factor.multiply(scale)? };
    wide.multiply(&factor)?.cast(x.dtype())
}
