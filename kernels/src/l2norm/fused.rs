//! The l2 norm in one launch each way.

use cotangent::{Dtype, Graph, Result, Tensor, differentiable};

use crate::rows::ROWS;

/// `scale * x * r` with `r = 1 / sqrt(sum(x^2) + epsilon)` of each head; a simdgroup has a few heads, or one.
#[differentiable(
    backward = fused_l2norm_backward,
    fallback = l2norm_by_operations,
    strided,
    headers = [ROWS],
    grid = (256 * ceil_div(N * H, 8 * max(1, 512 / max(D, 128))), 1, 1),
    threads = (256, 1, 1),
    cases = [
        (N = 1, H = 1, D = 1),
        (N = 3, H = 2, D = 8),
        (N = 5, H = 2, D = 77),
        (N = 19, H = 2, D = 131),
        (N = 3, H = 3, D = 256),
        (N = 2, H = 1, D = 600),
        (N = 2, H = 1, D = 2500),
    ],
)]
pub fn fused_l2norm<T: Float, const D: usize>(
    x: In![T; N, H, D],
    scale: f32,
    #[values(0.0..1.0, only = "a sum of squares and less has no root")] epsilon: f32,
    y: Out![T; N, H, D],
) {
    metal! {
        constexpr int COUNT = rows_of_simdgroup<D>();
        constexpr int PARTS = parts_of_lane<D>();
        constexpr int SPAN = 32 * PARTS;
        int first = int(threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup) * COUNT;
        int lane = int(thread_index_in_simdgroup);
        if (first >= N * H) { return; }
        ulong starts[COUNT];
        find_rows<COUNT>(starts, first, N * H, H, x_strides[0], x_strides[1]);
        T values[COUNT * PARTS];
        float squares[COUNT];
        #pragma unroll
        for (int r = 0; r < COUNT; ++r) { squares[r] = 0.0f; }
        for (int start = 0; start < D; start += SPAN) {
            load_rows<COUNT, PARTS>(values, x, starts, x_strides[2], start + lane, D);
            #pragma unroll
            for (int i = 0; i < COUNT * PARTS; ++i) { squares[i / PARTS] += float(values[i]) * float(values[i]); }
        }
        float factors[COUNT];
        #pragma unroll
        for (int r = 0; r < COUNT; ++r) { factors[r] = rsqrt(simd_sum(squares[r]) + epsilon) * scale; }
        for (int start = 0; start < D; start += SPAN) {
            if (D > SPAN) { load_rows<COUNT, PARTS>(values, x, starts, x_strides[2], start + lane, D); }
            #pragma unroll
            for (int i = 0; i < COUNT * PARTS; ++i) {
                int row = first + i / PARTS;
                int column = start + lane + 32 * (i % PARTS);
                if (row < N * H && column < D) { y[ulong(row) * D + uint(column)] = T(float(values[i]) * factors[i / PARTS]); }
            }
        }
    }
}

/// d_x = scale r (d_y - x r^2 (x . d_y)). It reads x anyway, so r is computed again and not kept.
#[differentiable(
    backward_of = fused_l2norm,
    strided,
    headers = [ROWS],
    grid = (256 * ceil_div(N * H, 8 * max(1, 512 / max(D, 128))), 1, 1),
    threads = (256, 1, 1),
)]
pub fn fused_l2norm_backward<T: Float, const D: usize>(
    x: In![T; N, H, D],
    d_y: In![T; N, H, D],
    scale: f32,
    epsilon: f32,
    d_x: Out![T; N, H, D],
) {
    metal! {
        constexpr int COUNT = rows_of_simdgroup<D>();
        constexpr int PARTS = parts_of_lane<D>();
        constexpr int SPAN = 32 * PARTS;
        int first = int(threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup) * COUNT;
        int lane = int(thread_index_in_simdgroup);
        if (first >= N * H) { return; }
        ulong x_starts[COUNT];
        ulong d_y_starts[COUNT];
        find_rows<COUNT>(x_starts, first, N * H, H, x_strides[0], x_strides[1]);
        find_rows<COUNT>(d_y_starts, first, N * H, H, d_y_strides[0], d_y_strides[1]);
        T values[COUNT * PARTS];
        T slopes[COUNT * PARTS];
        float squares[COUNT];
        float along[COUNT];
        #pragma unroll
        for (int r = 0; r < COUNT; ++r) { squares[r] = along[r] = 0.0f; }
        for (int start = 0; start < D; start += SPAN) {
            load_rows<COUNT, PARTS>(values, x, x_starts, x_strides[2], start + lane, D);
            load_rows<COUNT, PARTS>(slopes, d_y, d_y_starts, d_y_strides[2], start + lane, D);
            #pragma unroll
            for (int i = 0; i < COUNT * PARTS; ++i) {
                float value = float(values[i]);
                squares[i / PARTS] += value * value;
                along[i / PARTS] += float(slopes[i]) * value;
            }
        }
        float factors[COUNT];
        #pragma unroll
        for (int r = 0; r < COUNT; ++r) {
            factors[r] = rsqrt(simd_sum(squares[r]) + epsilon);
            along[r] = simd_sum(along[r]) * factors[r] * factors[r];
            factors[r] *= scale;
        }
        for (int start = 0; start < D; start += SPAN) {
            if (D > SPAN) {
                load_rows<COUNT, PARTS>(values, x, x_starts, x_strides[2], start + lane, D);
                load_rows<COUNT, PARTS>(slopes, d_y, d_y_starts, d_y_strides[2], start + lane, D);
            }
            #pragma unroll
            for (int i = 0; i < COUNT * PARTS; ++i) {
                int row = first + i / PARTS;
                int column = start + lane + 32 * (i % PARTS);
                if (row < N * H && column < D) {
                    float slope = float(slopes[i]) - float(values[i]) * along[i / PARTS];
                    d_x[ulong(row) * D + uint(column)] = T(factors[i / PARTS] * slope);
                }
            }
        }
    }
}

/// Computes the same norm from differentiable operations: the fallback.
fn l2norm_by_operations<M: Graph>(x: &Tensor<M>, scale: f32, epsilon: f32) -> Result<Tensor<M>> {
    let wide = x.cast(Dtype::F32)?;
    let factor = wide.square()?.sum_keep(&[-1])?.add(epsilon)?.rsqrt()?;
    // The factor is a number a vector: scaling it is cheaper than scaling the result.
    let factor = if scale == 1.0 { factor } else { factor.multiply(scale)? };
    wide.multiply(&factor)?.cast(x.dtype())
}
