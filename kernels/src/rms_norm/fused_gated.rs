//! The gated norm in one launch each way, and one more for the gradient of a weight that trains.

use cotangent::{Dtype, Graph, Result, Tensor, differentiable, stage};

use crate::rows::ROWS;
use crate::sigmoid::SIGMOID;
use crate::swiglu::portable_swiglu;

/// `weight * x * r * silu(gate)` with `r = 1 / sqrt(mean(x^2) + epsilon)` of each head; a simdgroup has a few heads,
/// or one.
#[differentiable(
    backward = fused_rms_norm_gated_backward,
    fallback = rms_norm_gated_by_operations,
    strided,
    headers = [ROWS, SIGMOID],
    grid = (256 * ceil_div(N * H, 8 * max(1, 512 / max(D, 128))), 1, 1),
    threads = (256, 1, 1),
    cases = [
        (N = 1, H = 1, D = 1),
        (N = 3, H = 2, D = 8),
        (N = 5, H = 2, D = 77),
        (N = 71, H = 1, D = 33),
        (N = 19, H = 2, D = 131),
        (N = 3, H = 3, D = 256),
        (N = 2, H = 1, D = 600),
        (N = 2, H = 1, D = 2500),
    ],
)]
pub fn fused_rms_norm_gated<T: Float, const D: usize>(
    x: In![T; N, H, D],
    gate: In![T; N, H, D],
    weight: In![f32; D],
    #[values(0.0..1.0, only = "a mean of squares and less has no root")] epsilon: f32,
    y: Out![T; N, H, D],
) {
    metal! {
        constexpr int COUNT = rows_of_simdgroup<D>();
        constexpr int PARTS = parts_of_lane<D>();
        constexpr int SPAN = 32 * PARTS;
        int first = int(threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup) * COUNT;
        int lane = int(thread_index_in_simdgroup);
        if (first >= N * H) { return; }
        ulong x_starts[COUNT];
        ulong gate_starts[COUNT];
        ulong weight_start[1] = {0};
        find_rows<COUNT>(x_starts, first, N * H, H, x_strides[0], x_strides[1]);
        find_rows<COUNT>(gate_starts, first, N * H, H, gate_strides[0], gate_strides[1]);
        T values[COUNT * PARTS];
        T gates[COUNT * PARTS];
        float weights[PARTS];
        float squares[COUNT];
        #pragma unroll
        for (int r = 0; r < COUNT; ++r) { squares[r] = 0.0f; }
        for (int start = 0; start < D; start += SPAN) {
            load_rows<COUNT, PARTS>(values, x, x_starts, x_strides[2], start + lane, D);
            if (D <= SPAN) {
                load_rows<COUNT, PARTS>(gates, gate, gate_starts, gate_strides[2], lane, D);
                load_rows<1, PARTS>(weights, weight, weight_start, weight_strides[0], lane, D);
            }
            #pragma unroll
            for (int i = 0; i < COUNT * PARTS; ++i) { squares[i / PARTS] += float(values[i]) * float(values[i]); }
        }
        float factors[COUNT];
        #pragma unroll
        for (int r = 0; r < COUNT; ++r) { factors[r] = rsqrt(simd_sum(squares[r]) / float(D) + epsilon); }
        for (int start = 0; start < D; start += SPAN) {
            if (D > SPAN) {
                load_rows<COUNT, PARTS>(values, x, x_starts, x_strides[2], start + lane, D);
                load_rows<COUNT, PARTS>(gates, gate, gate_starts, gate_strides[2], start + lane, D);
                load_rows<1, PARTS>(weights, weight, weight_start, weight_strides[0], start + lane, D);
            }
            #pragma unroll
            for (int i = 0; i < COUNT * PARTS; ++i) {
                int row = first + i / PARTS;
                int column = start + lane + 32 * (i % PARTS);
                if (row < N * H && column < D) {
                    float z = float(gates[i]);
                    float normed = float(values[i]) * factors[i / PARTS] * weights[i % PARTS];
                    y[ulong(row) * D + uint(column)] = T(normed * z * sigmoid_of(z));
                }
            }
        }
    }
}

/// Computes the gradients of [`fused_rms_norm_gated`]. With s the sigmoid of the gate z, u = z s, h = weight u d_y, and
/// means over a head: d_x = r (h - x r^2 mean(h x)), d_gate = weight x r d_y s (1 + z (1 - s)), d_weight = sum of d_y x
/// r u.
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
    let gradients =
        rms_norm_gated_gradients(stages, RmsNormGatedGradientsInputs { x, gate, weight, cotangent: d_y, epsilon })?;
    let d_weight = if wants_d_weight {
        Some(
            rms_norm_gated_weight_parts(
                stages,
                RmsNormGatedWeightPartsInputs { x, gate, inverse: &gradients.inverse, cotangent: d_y },
            )?
            .sum(&[0])?,
        )
    } else {
        None
    };
    Ok(Outputs { d_x: Some(gradients.x_gradient), d_gate: Some(gradients.gate_gradient), d_weight })
}

/// The gradients of `x` and the gate, and r of each head.
#[stage(
    strided,
    headers = [ROWS, SIGMOID],
    grid = (256 * ceil_div(N * H, 8 * max(1, 512 / max(D, 128))), 1, 1),
    threads = (256, 1, 1),
    cases = [
        (N = 3, H = 2, D = 8),
        (N = 5, H = 2, D = 77),
        (N = 9, H = 2, D = 128),
        (N = 3, H = 3, D = 256),
        (N = 2, H = 1, D = 2500),
    ],
)]
fn rms_norm_gated_gradients<T: Float, const D: usize>(
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
        constexpr int COUNT = rows_of_simdgroup<D>();
        constexpr int PARTS = parts_of_lane<D>();
        constexpr int SPAN = 32 * PARTS;
        int first = int(threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup) * COUNT;
        int lane = int(thread_index_in_simdgroup);
        if (first >= N * H) { return; }
        ulong x_starts[COUNT];
        ulong gate_starts[COUNT];
        ulong cotangent_starts[COUNT];
        ulong weight_start[1] = {0};
        find_rows<COUNT>(x_starts, first, N * H, H, x_strides[0], x_strides[1]);
        find_rows<COUNT>(gate_starts, first, N * H, H, gate_strides[0], gate_strides[1]);
        find_rows<COUNT>(cotangent_starts, first, N * H, H, cotangent_strides[0], cotangent_strides[1]);
        T values[COUNT * PARTS];
        T gates[COUNT * PARTS];
        T slopes[COUNT * PARTS];
        float weights[PARTS];
        float sigmoids[COUNT * PARTS];
        float squares[COUNT];
        float along[COUNT];
        #pragma unroll
        for (int r = 0; r < COUNT; ++r) { squares[r] = along[r] = 0.0f; }
        for (int start = 0; start < D; start += SPAN) {
            load_rows<COUNT, PARTS>(values, x, x_starts, x_strides[2], start + lane, D);
            load_rows<COUNT, PARTS>(gates, gate, gate_starts, gate_strides[2], start + lane, D);
            load_rows<COUNT, PARTS>(slopes, cotangent, cotangent_starts, cotangent_strides[2], start + lane, D);
            load_rows<1, PARTS>(weights, weight, weight_start, weight_strides[0], start + lane, D);
            #pragma unroll
            for (int i = 0; i < COUNT * PARTS; ++i) {
                float value = float(values[i]);
                sigmoids[i] = sigmoid_of(float(gates[i]));
                squares[i / PARTS] += value * value;
                along[i / PARTS] += weights[i % PARTS] * float(slopes[i]) * float(gates[i]) * sigmoids[i] * value;
            }
        }
        float factors[COUNT];
        #pragma unroll
        for (int r = 0; r < COUNT; ++r) {
            factors[r] = rsqrt(simd_sum(squares[r]) / float(D) + epsilon);
            along[r] = simd_sum(along[r]) / float(D) * factors[r] * factors[r];
            if (lane == 0 && first + r < N * H) { inverse[first + r] = factors[r]; }
        }
        for (int start = 0; start < D; start += SPAN) {
            if (D > SPAN) {
                load_rows<COUNT, PARTS>(values, x, x_starts, x_strides[2], start + lane, D);
                load_rows<COUNT, PARTS>(gates, gate, gate_starts, gate_strides[2], start + lane, D);
                load_rows<COUNT, PARTS>(slopes, cotangent, cotangent_starts, cotangent_strides[2], start + lane, D);
                load_rows<1, PARTS>(weights, weight, weight_start, weight_strides[0], start + lane, D);
                #pragma unroll
                for (int i = 0; i < COUNT * PARTS; ++i) { sigmoids[i] = sigmoid_of(float(gates[i])); }
            }
            #pragma unroll
            for (int i = 0; i < COUNT * PARTS; ++i) {
                int row = first + i / PARTS;
                int column = start + lane + 32 * (i % PARTS);
                if (row < N * H && column < D) {
                    ulong at = ulong(row) * D + uint(column);
                    float z = float(gates[i]);
                    float value = float(values[i]);
                    float slope = weights[i % PARTS] * float(slopes[i]);
                    float factor = factors[i / PARTS];
                    x_gradient[at] = T(factor * (slope * z * sigmoids[i] - value * along[i / PARTS]));
                    gate_gradient[at] = T(slope * value * factor * sigmoids[i] * (1.0f + z * (1.0f - sigmoids[i])));
                }
            }
        }
    }
}

/// The gradient of the weight in parts, each of 64 heads in order: their sum is the same in every run.
#[stage(
    strided,
    headers = [SIGMOID],
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
            sum += slope * value * inverse[token * inverse_strides[0] + head * inverse_strides[1]] * z * sigmoid_of(z);
        }
        parts[ulong(part) * D + column] = sum;
    }
}

/// Computes the same norm with MLX's own operation, between conversions, and with the gate of SwiGLU, which has the
/// same form: the fallback.
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
