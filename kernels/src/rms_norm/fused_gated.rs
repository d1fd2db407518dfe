//! The gated norm in one launch each way, and one more for the gradient of a weight that trains.

use cotangent::{Dtype, Graph, Result, Tensor, differentiable, stage};

use crate::swiglu::portable_swiglu;

/// `weight * x * r * silu(gate)` with `r = 1 / sqrt(mean(x^2) + epsilon)` of each head; a simdgroup has a head.
#[differentiable(
    backward = fused_rms_norm_gated_backward,
    fallback = rms_norm_gated_by_operations,
    strided,
    grid = (256 * ceil_div(N * H, 8), 1, 1),
    threads = (256, 1, 1),
    cases = [(N = 1, H = 1, D = 1), (N = 3, H = 2, D = 8), (N = 5, H = 2, D = 77), (N = 71, H = 1, D = 33)],
)]
pub fn fused_rms_norm_gated<T: Float>(
    x: In![T; N, H, D],
    gate: In![T; N, H, D],
    weight: In![f32; D],
    epsilon: f32,
    y: Out![T; N, H, D],
) {
    metal! {
        uint row = threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup;
        uint lane = thread_index_in_simdgroup;
        if (row >= uint(N * H)) { return; }
        ulong x_row = ulong(row / H) * x_strides[0] + ulong(row % H) * x_strides[1];
        ulong gate_row = ulong(row / H) * gate_strides[0] + ulong(row % H) * gate_strides[1];
        float squares = 0.0f;
        for (uint column = lane; column < uint(D); column += 32u) {
            float value = float(x[x_row + column * x_strides[2]]);
            squares += value * value;
        }
        float factor = rsqrt(simd_sum(squares) / float(D) + epsilon);
        for (uint column = lane; column < uint(D); column += 32u) {
            float normed = float(x[x_row + column * x_strides[2]]) * factor * weight[column * weight_strides[0]];
            float z = float(gate[gate_row + column * gate_strides[2]]);
            y[ulong(row) * D + column] = T(normed * z / (1.0f + exp(-z)));
        }
    }
}

/// With s the sigmoid of the gate z, u = z s, h = weight u d_y, and means over a head: d_x = r (h - x r^2 mean(h x)),
/// d_gate = weight x r d_y s (1 + z (1 - s)), d_weight = sum of d_y x r u.
#[differentiable(backward_of = fused_rms_norm_gated, stages = [rms_norm_gated_gradients, rms_norm_gated_weight_parts])]
pub fn fused_rms_norm_gated_backward<T: Float>(
    x: In![T; N, H, D],
    gate: In![T; N, H, D],
    weight: In![f32; D],
    d_y: In![T; N, H, D],
    epsilon: f32,
    d_x: Out![T; N, H, D],
    d_gate: Out![T; N, H, D],
    d_weight: Out![f32; D],
) {
    let gradients = rms_norm_gated_gradients(stages, x, gate, weight, d_y, epsilon)?;
    let d_weight = if wants_d_weight {
        Some(rms_norm_gated_weight_parts(stages, x, gate, &gradients.inverse, d_y)?.sum(&[0])?)
    } else {
        None
    };
    Ok(Outputs { d_x: Some(gradients.x_gradient), d_gate: Some(gradients.gate_gradient), d_weight })
}

/// The gradients of `x` and the gate, and r of each head.
#[stage(
    strided,
    grid = (256 * ceil_div(N * H, 8), 1, 1),
    threads = (256, 1, 1),
    cases = [(N = 3, H = 2, D = 8), (N = 5, H = 2, D = 77)],
)]
fn rms_norm_gated_gradients<T: Float>(
    x: In![T; N, H, D],
    gate: In![T; N, H, D],
    weight: In![f32; D],
    cotangent: In![T; N, H, D],
    epsilon: f32,
    x_gradient: Out![T; N, H, D],
    gate_gradient: Out![T; N, H, D],
    inverse: Out![f32; N, H],
) {
    metal! {
        uint row = threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup;
        uint lane = thread_index_in_simdgroup;
        if (row >= uint(N * H)) { return; }
        uint token = row / H;
        uint head = row % H;
        ulong x_row = ulong(token) * x_strides[0] + ulong(head) * x_strides[1];
        ulong gate_row = ulong(token) * gate_strides[0] + ulong(head) * gate_strides[1];
        ulong cotangent_row = ulong(token) * cotangent_strides[0] + ulong(head) * cotangent_strides[1];
        float squares = 0.0f;
        float along = 0.0f;
        for (uint column = lane; column < uint(D); column += 32u) {
            float value = float(x[x_row + column * x_strides[2]]);
            float z = float(gate[gate_row + column * gate_strides[2]]);
            float slope = weight[column * weight_strides[0]];
            slope *= float(cotangent[cotangent_row + column * cotangent_strides[2]]);
            squares += value * value;
            along += slope * z / (1.0f + exp(-z)) * value;
        }
        float factor = rsqrt(simd_sum(squares) / float(D) + epsilon);
        along = simd_sum(along) / float(D) * factor * factor;
        for (uint column = lane; column < uint(D); column += 32u) {
            float value = float(x[x_row + column * x_strides[2]]);
            float z = float(gate[gate_row + column * gate_strides[2]]);
            float slope = weight[column * weight_strides[0]];
            slope *= float(cotangent[cotangent_row + column * cotangent_strides[2]]);
            float sigmoid = 1.0f / (1.0f + exp(-z));
            x_gradient[ulong(row) * D + column] = T(factor * (slope * z * sigmoid - value * along));
            gate_gradient[ulong(row) * D + column] = T(slope * value * factor * sigmoid * (1.0f + z * (1.0f - sigmoid)));
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
fn rms_norm_gated_weight_parts<T: Float>(
    x: In![T; N, H, D],
    gate: In![T; N, H, D],
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
            float z = float(gate[ulong(token) * gate_strides[0] + ulong(head) * gate_strides[1] + column * gate_strides[2]]);
            float slope =
                float(cotangent[ulong(token) * cotangent_strides[0] + ulong(head) * cotangent_strides[1] + column * cotangent_strides[2]]);
            sum += slope * value * inverse[token * inverse_strides[0] + head * inverse_strides[1]] * z / (1.0f + exp(-z));
        }
        parts[ulong(part) * D + column] = sum;
    }
}

/// The same norm, composed of operations: MLX's own, between conversions, and the gate of SwiGLU, which has the same form.
fn rms_norm_gated_by_operations<M: Graph>(
    x: &Tensor<M>,
    gate: &Tensor<M>,
    weight: &Tensor<M>,
    epsilon: f32,
) -> Result<Tensor<M>> {
    let normalised = x.cast(Dtype::F32)?.rms_norm(weight, epsilon)?;
    let gate = gate.cast(Dtype::F32)?.reshape(&[-1])?;
    portable_swiglu(&gate, &normalised.reshape(&[-1])?)?.reshape(x.shape())?.cast(x.dtype())
}
