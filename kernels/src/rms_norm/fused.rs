//! Root-mean-square norms in one launch each way, and one more for the gradient of a weight that trains.

use cotangent::{Dtype, Graph, Result, Tensor, differentiable, stage};

/// `(centre + weight) * x * r` with `r = 1 / sqrt(mean(x^2) + epsilon)` of each head; a simdgroup has a head.
#[differentiable(
    backward = fused_rms_norm_backward,
    fallback = rms_norm_by_operations,
    strided,
    grid = (256 * ceil_div(N * H, 8), 1, 1),
    threads = (256, 1, 1),
    cases = [(N = 1, H = 1, D = 1), (N = 3, H = 2, D = 8), (N = 5, H = 2, D = 77), (N = 71, H = 1, D = 33)],
)]
pub fn fused_rms_norm<T: Float>(
    x: In![T; N, H, D],
    weight: In![f32; D],
    epsilon: f32,
    centre: f32,
    y: Out![T; N, H, D],
) {
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
        float factor = rsqrt(simd_sum(squares) / float(D) + epsilon);
        for (uint column = lane; column < uint(D); column += 32u) {
            float value = float(x[x_row + column * x_strides[2]]);
            y[ulong(row) * D + column] = T(value * factor * (centre + weight[column * weight_strides[0]]));
        }
    }
}

/// With h = (centre + weight) d_y and means over a head: d_x = r (h - x r^2 mean(h x)), d_weight = sum of d_y x r. It reads x
/// anyway, so r is computed again and not kept.
#[differentiable(backward_of = fused_rms_norm, stages = [rms_norm_gradient, rms_norm_weight_parts])]
pub fn fused_rms_norm_backward<T: Float>(
    x: In![T; N, H, D],
    weight: In![f32; D],
    d_y: In![T; N, H, D],
    epsilon: f32,
    centre: f32,
    d_x: Out![T; N, H, D],
    d_weight: Out![f32; D],
) {
    let row = rms_norm_gradient(stages, x, weight, d_y, epsilon, centre)?;
    let d_weight =
        if wants_d_weight { Some(rms_norm_weight_parts(stages, x, &row.inverse, d_y)?.sum(&[0])?) } else { None };
    Ok(Outputs { d_x: Some(row.x_gradient), d_weight })
}

/// The gradient of `x`, and r of each head.
#[stage(
    strided,
    grid = (256 * ceil_div(N * H, 8), 1, 1),
    threads = (256, 1, 1),
    cases = [(N = 3, H = 2, D = 8), (N = 5, H = 2, D = 77)],
)]
fn rms_norm_gradient<T: Float>(
    x: In![T; N, H, D],
    weight: In![f32; D],
    cotangent: In![T; N, H, D],
    epsilon: f32,
    centre: f32,
    x_gradient: Out![T; N, H, D],
    inverse: Out![f32; N, H],
) {
    metal! {
        uint row = threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup;
        uint lane = thread_index_in_simdgroup;
        if (row >= uint(N * H)) { return; }
        uint token = row / H;
        uint head = row % H;
        ulong x_row = ulong(token) * x_strides[0] + ulong(head) * x_strides[1];
        ulong cotangent_row = ulong(token) * cotangent_strides[0] + ulong(head) * cotangent_strides[1];
        float squares = 0.0f;
        float along = 0.0f;
        for (uint column = lane; column < uint(D); column += 32u) {
            float value = float(x[x_row + column * x_strides[2]]);
            float slope = float(cotangent[cotangent_row + column * cotangent_strides[2]]);
            squares += value * value;
            along += (centre + weight[column * weight_strides[0]]) * slope * value;
        }
        float factor = rsqrt(simd_sum(squares) / float(D) + epsilon);
        along = simd_sum(along) / float(D) * factor * factor;
        for (uint column = lane; column < uint(D); column += 32u) {
            float value = float(x[x_row + column * x_strides[2]]);
            float slope = float(cotangent[cotangent_row + column * cotangent_strides[2]]);
            slope *= centre + weight[column * weight_strides[0]];
            x_gradient[ulong(row) * D + column] = T(factor * (slope - value * along));
        }
        if (lane == 0u) { inverse[row] = factor; }
    }
}

/// The gradient of the weight in parts, each of 64 heads in order: their sum is the same in every run.
#[stage(
    strided,
    grid = (128 * ceil_div(D, 128) * ceil_div(N * H, 64), 1, 1),
    threads = (128, 1, 1),
    cases = [(N = 3, H = 2, D = 8), (N = 65, H = 2, D = 131)],
)]
fn rms_norm_weight_parts<T: Float>(
    x: In![T; N, H, D],
    inverse: In![f32; N, H],
    cotangent: In![T; N, H, D],
    parts: Out![f32; ceil_div(N * H, 64), D],
) {
    metal! {
        uint strips = (D + 127) / 128;
        uint column = threadgroup_position_in_grid.x % strips * 128u + thread_position_in_threadgroup.x;
        uint part = threadgroup_position_in_grid.x / strips;
        if (column >= uint(D)) { return; }
        float sum = 0.0f;
        for (uint row = part * 64u; row < min(part * 64u + 64u, uint(N * H)); ++row) {
            uint token = row / H;
            uint head = row % H;
            float value = float(x[ulong(token) * x_strides[0] + ulong(head) * x_strides[1] + column * x_strides[2]]);
            float slope =
                float(cotangent[ulong(token) * cotangent_strides[0] + ulong(head) * cotangent_strides[1] + column * cotangent_strides[2]]);
            sum += slope * value * inverse[token * inverse_strides[0] + head * inverse_strides[1]];
        }
        parts[ulong(part) * D + column] = sum;
    }
}

/// The same norm, composed of operations: MLX's own, between conversions.
fn rms_norm_by_operations<M: Graph>(x: &Tensor<M>, weight: &Tensor<M>, epsilon: f32, centre: f32) -> Result<Tensor<M>> {
    let weight = if centre == 0.0 { weight.clone() } else { weight.add(centre)? };
    x.cast(Dtype::F32)?.rms_norm(&weight, epsilon)?.cast(x.dtype())
}
