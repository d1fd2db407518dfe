//! The layer whose weight is chosen by an expert's number.

use cotangent::{Graph, Indices, Result, Tensor, differentiable, stage};

/// `y[n, s] = W[experts[n, s]] x[n, s]`, or `x[n, 0]` where tokens have one row for all their experts (`C` = 1, else `S`); a
/// simdgroup has an output.
#[differentiable(
    backward = fused_verify_switch_linear_backward,
    fallback = verify_switch_linear_by_operations,
    requires = [N * S <= 65535, E <= 65535],
    grid = (256 * ceil_div(O, 8), N * S, 1),
    threads = (256, 1, 1),
    cases = [
        (N = 1, C = 1, K = 1, E = 1, O = 1, S = 1),
        (N = 3, C = 1, K = 37, E = 4, O = 5, S = 2),
        (N = 2, C = 3, K = 40, E = 3, O = 70, S = 3),
    ],
)]
pub fn fused_verify_switch_linear<T: Float, I: Int>(
    x: In![T; N, C, K],
    weight: In![T; E, O, K],
    #[values(0..E)] experts: In![I; N, S],
    y: Out![T; N, S, O],
) {
    metal! {
        uint output = threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup;
        uint pair = threadgroup_position_in_grid.y;
        uint lane = thread_index_in_simdgroup;
        if (output >= uint(O)) { return; }
        ulong x_row = (ulong(pair / S) * C + min(pair % S, uint(C - 1))) * K;
        ulong weight_row = (ulong(experts[pair]) * O + output) * K;
        float sum = 0.0f;
        for (uint input = lane; input < uint(K); input += 32u) {
            sum += float(weight[weight_row + input]) * float(x[x_row + input]);
        }
        sum = simd_sum(sum);
        if (lane == 0u) { y[ulong(pair) * O + output] = T(sum); }
    }
}

/// d_x[n, s] = d_y[n, s] W[experts[n, s]], summed over s where tokens have one row; d_W[e] = the sum of d_y[n, s]^T x[n, s]
/// over the pairs that chose e.
#[differentiable(backward_of = fused_verify_switch_linear, stages = [switch_input_parts, switch_weight_gradient])]
pub fn fused_verify_switch_linear_backward<T: Float, I: Int>(
    x: In![T; N, C, K],
    weight: In![T; E, O, K],
    experts: In![I; N, S],
    d_y: In![T; N, S, O],
    d_x: Out![T; N, C, K],
    d_weight: Out![T; E, O, K],
) {
    let d_x = if wants_d_x {
        let d_x = switch_input_parts(stages, weight, experts, d_y)?.sum(&[0])?;
        let d_x = if C == 1 { d_x.sum_keep(&[1])? } else { d_x };
        Some(d_x.cast(x.dtype())?)
    } else {
        None
    };
    let d_weight =
        if wants_d_weight { Some(switch_weight_gradient(stages, x, experts, d_y, E as usize)?) } else { None };
    Ok(Outputs { d_x, d_weight })
}

/// The gradient of each pair's inputs in parts, each of 64 outputs in order: their sum is the same in every run.
#[stage(
    grid = (128 * ceil_div(K, 128), ceil_div(O, 64), N * S),
    threads = (128, 1, 1),
    cases = [(N = 3, K = 37, E = 4, O = 5, S = 2), (N = 2, K = 130, E = 3, O = 70, S = 3)],
)]
fn switch_input_parts<T: Float, I: Int>(
    weight: In![T; E, O, K],
    #[values(0..E)] experts: In![I; N, S],
    cotangent: In![T; N, S, O],
    parts: Out![f32; ceil_div(O, 64), N, S, K],
) {
    metal! {
        uint input = thread_position_in_grid.x;
        uint part = threadgroup_position_in_grid.y;
        uint pair = threadgroup_position_in_grid.z;
        if (input >= uint(K)) { return; }
        ulong matrix = ulong(experts[pair]) * O;
        float sum = 0.0f;
        for (uint output = part * 64u; output < min(part * 64u + 64u, uint(O)); ++output) {
            sum += float(cotangent[ulong(pair) * O + output]) * float(weight[(matrix + output) * K + input]);
        }
        parts[(ulong(part) * N * S + pair) * K + input] = sum;
    }
}

/// The gradient of every expert's weight: one thread sums an element over the pairs, in order.
#[stage(
    grid = (256 * ceil_div(O * K, 256), E, 1),
    threads = (256, 1, 1),
    cases = [(N = 3, C = 1, K = 37, O = 5, S = 2, E = 4), (N = 2, C = 3, K = 40, O = 70, S = 3, E = 3)],
)]
fn switch_weight_gradient<T: Float, I: Int, const E: usize>(
    x: In![T; N, C, K],
    #[values(0..E)] experts: In![I; N, S],
    cotangent: In![T; N, S, O],
    weight_gradient: Out![T; E, O, K],
) {
    metal! {
        uint element = thread_position_in_grid.x;
        uint expert = threadgroup_position_in_grid.y;
        if (element >= uint(O * K)) { return; }
        uint output = element / K;
        uint input = element % K;
        float sum = 0.0f;
        for (uint pair = 0u; pair < uint(N * S); ++pair) {
            if (uint(experts[pair]) == expert) {
                ulong x_row = (ulong(pair / S) * C + min(pair % S, uint(C - 1))) * K;
                sum += float(cotangent[ulong(pair) * O + output]) * float(x[x_row + input]);
            }
        }
        weight_gradient[ulong(expert) * O * K + element] = T(sum);
    }
}

/// Computes the same products with the gathered weight of each pair: the fallback.
fn verify_switch_linear_by_operations<M: Graph>(
    x: &Tensor<M>,
    weight: &Tensor<M>,
    experts: &Indices,
) -> Result<Tensor<M>> {
    weight.take(experts, 0)?.matmul(&x.expand_dims(-1)?)?.squeeze(-1)
}
