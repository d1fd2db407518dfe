//! The launches that compute the gradients of the norms.

use cotangent::stage;

use crate::rows::ROWS;
use crate::sigmoid::SIGMOID;

/// The gradient of `x`, and scale r of each head.
#[stage(
    strided,
    headers = [ROWS],
    grid = (256 * ceil_div(N * H, 8 * max(1, 512 / max(D, 128))), 1, 1),
    threads = (256, 1, 1),
    cases = [
        (N = 3, H = 2, D = 8, MEAN = true),
        (N = 5, H = 2, D = 77, MEAN = false),
        (N = 3, H = 3, D = 256, MEAN = true),
        (N = 2, H = 1, D = 1100, MEAN = true),
    ],
)]
pub(super) fn norm_gradients<T: Float, const D: usize, const MEAN: bool>(
    x: In![T; N, H, D],
    weight: Option<In![f32; D]>,
    cotangent: In![T; N, H, D],
    scale: f32,
    centre: f32,
    epsilon: f32,
    x_gradient: Out![T; N, H, D],
    factor: Out![f32; N, H],
) {
    metal! {
        constexpr int COUNT = rows_of_simdgroup<D>();
        constexpr int PARTS = parts_of_lane<D>();
        constexpr int SPAN = 32 * PARTS;
        int first = int(threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup) * COUNT;
        int lane = int(thread_index_in_simdgroup);
        if (first >= N * H) { return; }
        ulong x_starts[COUNT];
        ulong cotangent_starts[COUNT];
        find_rows<COUNT>(x_starts, first, N * H, H, x_strides[0], x_strides[1]);
        find_rows<COUNT>(cotangent_starts, first, N * H, H, cotangent_strides[0], cotangent_strides[1]);
        T values[COUNT * PARTS];
        T slopes[COUNT * PARTS];
        float weights[PARTS];
        float squares[COUNT] = {};
        float along[COUNT] = {};
        #pragma unroll
        for (int part = 0; part < PARTS; ++part) { weights[part] = 1.0f; }
        for (int start = 0; start < D; start += SPAN) {
            load_rows<COUNT, PARTS>(values, x, x_starts, x_strides[2], start + lane, D);
            load_rows<COUNT, PARTS>(slopes, cotangent, cotangent_starts, cotangent_strides[2], start + lane, D);
            if (HAS_weight) { load_weights<PARTS>(weights, weight, weight_strides[0], start + lane, D, centre); }
            #pragma unroll
            for (int i = 0; i < COUNT * PARTS; ++i) {
                float value = float(values[i]);
                squares[i / PARTS] += value * value;
                along[i / PARTS] += weights[i % PARTS] * float(slopes[i]) * value;
            }
        }
        float factors[COUNT];
        #pragma unroll
        for (int r = 0; r < COUNT; ++r) {
            float root = rsqrt(simd_sum(squares[r]) / (MEAN ? float(D) : 1.0f) + epsilon);
            along[r] = simd_sum(along[r]) / (MEAN ? float(D) : 1.0f) * root * root;
            factors[r] = root * scale;
            if (lane == 0 && first + r < N * H) { factor[first + r] = factors[r]; }
        }
        for (int start = 0; start < D; start += SPAN) {
            if (D > SPAN) {
                load_rows<COUNT, PARTS>(values, x, x_starts, x_strides[2], start + lane, D);
                load_rows<COUNT, PARTS>(slopes, cotangent, cotangent_starts, cotangent_strides[2], start + lane, D);
                if (HAS_weight) { load_weights<PARTS>(weights, weight, weight_strides[0], start + lane, D, centre); }
            }
            #pragma unroll
            for (int i = 0; i < COUNT * PARTS; ++i) {
                int row = first + i / PARTS;
                int column = start + lane + 32 * (i % PARTS);
                if (row < N * H && column < D) {
                    float slope = weights[i % PARTS] * float(slopes[i]) - float(values[i]) * along[i / PARTS];
                    x_gradient[ulong(row) * D + uint(column)] = T(factors[i / PARTS] * slope);
                }
            }
        }
    }
}

/// The gradients of `x` and the gate, and scale r of each head.
#[stage(
    strided,
    headers = [ROWS, SIGMOID],
    grid = (256 * ceil_div(N * H, 8 * max(1, 512 / max(D, 128))), 1, 1),
    threads = (256, 1, 1),
    cases = [
        (N = 3, H = 2, D = 8, MEAN = true),
        (N = 5, H = 2, D = 77, MEAN = false),
        (N = 9, H = 2, D = 128, MEAN = true),
        (N = 3, H = 3, D = 256, MEAN = true),
        (N = 2, H = 1, D = 1100, MEAN = true),
    ],
)]
pub(super) fn gated_gradients<T: Float, const D: usize, const MEAN: bool>(
    x: In![T; N, H, D],
    gate: In![T; N, H, D],
    weight: Option<In![f32; D]>,
    cotangent: In![T; N, H, D],
    scale: f32,
    centre: f32,
    epsilon: f32,
    x_gradient: Out![T; N, H, D],
    gate_gradient: Out![T; N, H, D],
    factor: Out![f32; N, H],
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
        find_rows<COUNT>(x_starts, first, N * H, H, x_strides[0], x_strides[1]);
        find_rows<COUNT>(gate_starts, first, N * H, H, gate_strides[0], gate_strides[1]);
        find_rows<COUNT>(cotangent_starts, first, N * H, H, cotangent_strides[0], cotangent_strides[1]);
        T values[COUNT * PARTS];
        T gates[COUNT * PARTS];
        T slopes[COUNT * PARTS];
        float weights[PARTS];
        float sigmoids[COUNT * PARTS];
        float squares[COUNT] = {};
        float along[COUNT] = {};
        #pragma unroll
        for (int part = 0; part < PARTS; ++part) { weights[part] = 1.0f; }
        for (int start = 0; start < D; start += SPAN) {
            load_rows<COUNT, PARTS>(values, x, x_starts, x_strides[2], start + lane, D);
            load_rows<COUNT, PARTS>(gates, gate, gate_starts, gate_strides[2], start + lane, D);
            load_rows<COUNT, PARTS>(slopes, cotangent, cotangent_starts, cotangent_strides[2], start + lane, D);
            if (HAS_weight) { load_weights<PARTS>(weights, weight, weight_strides[0], start + lane, D, centre); }
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
            float root = rsqrt(simd_sum(squares[r]) / (MEAN ? float(D) : 1.0f) + epsilon);
            along[r] = simd_sum(along[r]) / (MEAN ? float(D) : 1.0f) * root * root;
            factors[r] = root * scale;
            if (lane == 0 && first + r < N * H) { factor[first + r] = factors[r]; }
        }
        for (int start = 0; start < D; start += SPAN) {
            if (D > SPAN) {
                load_rows<COUNT, PARTS>(values, x, x_starts, x_strides[2], start + lane, D);
                load_rows<COUNT, PARTS>(gates, gate, gate_starts, gate_strides[2], start + lane, D);
                load_rows<COUNT, PARTS>(slopes, cotangent, cotangent_starts, cotangent_strides[2], start + lane, D);
                if (HAS_weight) { load_weights<PARTS>(weights, weight, weight_strides[0], start + lane, D, centre); }
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
                    x_gradient[at] = T(factors[i / PARTS] * (slope * z * sigmoids[i] - value * along[i / PARTS]));
                    gate_gradient[at] = T(slope * value * factors[i / PARTS] * sigmoids[i] * (1.0f + z * (1.0f - sigmoids[i])));
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
pub(super) fn norm_weight_parts<T: Float>(
    x: In![T; N, H, D],
    gate: Option<In![T; N, H, D]>,
    factor: In![f32; N, H],
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
            if (HAS_gate) {
                float z = float(gate[ulong(token) * gate_strides[0] + ulong(head) * gate_strides[1] + column * gate_strides[2]]);
                value *= z * sigmoid_of(z);
            }
            float slope =
                float(cotangent[ulong(token) * cotangent_strides[0] + ulong(head) * cotangent_strides[1] + column * cotangent_strides[2]]);
            sum += slope * value * factor[token * factor_strides[0] + head * factor_strides[1]];
        }
        parts[ulong(part) * D + column] = sum;
    }
}
