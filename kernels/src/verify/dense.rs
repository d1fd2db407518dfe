//! The dense layer for a few rows.

use cotangent::{Graph, Result, Tensor, differentiable};

/// `y = x W^T`; a simdgroup has an output, and reads its weights once for eight rows.
#[differentiable(
    backward = fused_verify_linear_backward,
    fallback = verify_linear_by_operations,
    grid = (256 * ceil_div(O, 8), ceil_div(R, 8), 1),
    threads = (256, 1, 1),
    cases = [(R = 1, K = 1, O = 1), (R = 5, K = 37, O = 3), (R = 11, K = 70, O = 19)],
)]
pub fn fused_verify_linear<T: Float>(x: In![T; R, K], weight: In![T; O, K], y: Out![T; R, O]) {
    metal! {
        uint output = threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup;
        uint first = threadgroup_position_in_grid.y * 8u;
        uint lane = thread_index_in_simdgroup;
        if (output >= uint(O)) { return; }
        float sums[8] = {};
        for (uint input = lane; input < uint(K); input += 32u) {
            float factor = float(weight[ulong(output) * K + input]);
            for (uint row = 0u; row < 8u; ++row) {
                if (first + row < uint(R)) { sums[row] += factor * float(x[ulong(first + row) * K + input]); }
            }
        }
        for (uint row = 0u; row < 8u; ++row) {
            float sum = simd_sum(sums[row]);
            if (lane == 0u && first + row < uint(R)) { y[ulong(first + row) * O + output] = T(sum); }
        }
    }
}

/// d_x = d_y W, d_W = d_y^T x, by MLX's products of matrices.
#[differentiable(backward_of = fused_verify_linear)]
pub fn fused_verify_linear_backward<T: Float>(
    x: In![T; R, K],
    weight: In![T; O, K],
    d_y: In![T; R, O],
    d_x: Out![T; R, K],
    d_weight: Out![T; O, K],
) {
    let d_x = if wants_d_x { Some(d_y.matmul(weight)?) } else { None };
    let d_weight = if wants_d_weight { Some(d_y.swap_axes(0, 1)?.matmul(x)?) } else { None };
    Ok(Outputs { d_x, d_weight })
}

fn verify_linear_by_operations<M: Graph>(x: &Tensor<M>, weight: &Tensor<M>) -> Result<Tensor<M>> {
    x.linear(weight)
}
