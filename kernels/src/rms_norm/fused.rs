//! The norms in one launch each way, and one more for the gradient of a weight that trains.

use cotangent::{Dtype, Graph, Result, Tensor, differentiable};

use super::gradients::{
    GatedGradientsInputs, NormWeightPartsInputs, gated_gradients, norm_gradients, norm_weight_parts,
};
use crate::rows::ROWS;
use crate::sigmoid::SIGMOID;
use crate::swiglu::portable_swiglu;

/// `scale * (centre + weight) * x * r * silu(gate)` with `r = 1 / sqrt(mean(x^2) + epsilon)` of each head, or with the sum
/// in the place of the mean (`MEAN` false). A simdgroup has a few heads, or one. Without a weight or a gate the factor is 1.
#[differentiable(
    backward = fused_norm_backward,
    fallback = norm_by_operations,
    strided,
    headers = [ROWS, SIGMOID],
    grid = (256 * ceil_div(N * H, 8 * max(1, 512 / max(D, 128))), 1, 1),
    threads = (256, 1, 1),
    cases = [
        (N = 1, H = 1, D = 1, MEAN = true),
        (N = 3, H = 2, D = 8, MEAN = false),
        (N = 5, H = 2, D = 77, MEAN = true),
        (N = 7, H = 1, D = 131, MEAN = true),
        (N = 2, H = 1, D = 1100, MEAN = false),
    ],
)]
pub fn fused_norm<T: Float, const D: usize, const MEAN: bool>(
    x: In![T; N, H, D],
    gate: Option<In![T; N, H, D]>,
    weight: Option<In![f32; D]>,
    scale: f32,
    centre: f32,
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
        ulong x_starts[COUNT];
        ulong gate_starts[COUNT];
        find_rows<COUNT>(x_starts, first, N * H, H, x_strides[0], x_strides[1]);
        if (HAS_gate) { find_rows<COUNT>(gate_starts, first, N * H, H, gate_strides[0], gate_strides[1]); }
        T values[COUNT * PARTS];
        T gates[COUNT * PARTS];
        float weights[PARTS];
        float squares[COUNT] = {};
        #pragma unroll
        for (int part = 0; part < PARTS; ++part) { weights[part] = 1.0f; }
        for (int start = 0; start < D; start += SPAN) {
            load_rows<COUNT, PARTS>(values, x, x_starts, x_strides[2], start + lane, D);
            if (D <= SPAN) {
                if (HAS_gate) { load_rows<COUNT, PARTS>(gates, gate, gate_starts, gate_strides[2], lane, D); }
                if (HAS_weight) { load_weights<PARTS>(weights, weight, weight_strides[0], lane, D, centre); }
            }
            #pragma unroll
            for (int i = 0; i < COUNT * PARTS; ++i) { squares[i / PARTS] += float(values[i]) * float(values[i]); }
        }
        float factors[COUNT];
        #pragma unroll
        for (int r = 0; r < COUNT; ++r) {
            factors[r] = rsqrt(simd_sum(squares[r]) / (MEAN ? float(D) : 1.0f) + epsilon) * scale;
        }
        for (int start = 0; start < D; start += SPAN) {
            if (D > SPAN) {
                load_rows<COUNT, PARTS>(values, x, x_starts, x_strides[2], start + lane, D);
                if (HAS_gate) { load_rows<COUNT, PARTS>(gates, gate, gate_starts, gate_strides[2], start + lane, D); }
                if (HAS_weight) { load_weights<PARTS>(weights, weight, weight_strides[0], start + lane, D, centre); }
            }
            #pragma unroll
            for (int i = 0; i < COUNT * PARTS; ++i) {
                int row = first + i / PARTS;
                int column = start + lane + 32 * (i % PARTS);
                if (row < N * H && column < D) {
                    float value = float(values[i]) * factors[i / PARTS] * weights[i % PARTS];
                    if (HAS_gate) { value *= float(gates[i]) * sigmoid_of(float(gates[i])); }
                    y[ulong(row) * D + uint(column)] = T(value);
                }
            }
        }
    }
}

/// Computes the gradients of [`fused_norm`]. With s the sigmoid of the gate z, u = z s, c = scale r, h = (centre + weight) u d_y,
/// and means, or sums, over a head: d_x = c (h - x r^2 mean(h x)), d_gate = c (centre + weight) x d_y s (1 + z (1 - s)), d_weight
/// = sum of c d_y x u. It reads x anyway, so r is computed again and not kept.
#[differentiable(backward_of = fused_norm, stages = [norm_gradients, gated_gradients, norm_weight_parts])]
pub fn fused_norm_backward<T: Float, const MEAN: bool>(
    x: In![T; N, H, D],
    gate: Option<In![T; N, H, D]>,
    weight: Option<In![f32; D]>,
    d_y: In![T; N, H, D],
    scale: f32,
    centre: f32,
    epsilon: f32,
    d_x: Out![T; N, H, D],
    d_gate: Option<Out![T; N, H, D]>,
    d_weight: Option<Out![f32; D]>,
) {
    let (d_x, d_gate, factors) = if let Some(gate) = gate {
        let inputs = GatedGradientsInputs { x, gate, weight, cotangent: d_y, scale, centre, epsilon, mean: MEAN };
        let found = gated_gradients(stages, inputs)?;
        (found.x_gradient, Some(found.gate_gradient), found.factor)
    } else {
        let found = norm_gradients(stages, x, weight, d_y, scale, centre, epsilon, MEAN)?;
        (found.x_gradient, None, found.factor)
    };
    let d_weight = if wants_d_weight {
        let inputs = NormWeightPartsInputs { x, gate, factor: &factors, cotangent: d_y };
        Some(norm_weight_parts(stages, inputs)?.sum(&[0])?)
    } else {
        None
    };
    Ok(Outputs { d_x: Some(d_x), d_gate, d_weight })
}

/// Computes the same norm from differentiable operations, with MLX's own norm where there is a mean and a weight, and with
/// the gate of SwiGLU, which has the same form: the fallback.
fn norm_by_operations<M: Graph>(
    x: &Tensor<M>,
    gate: Option<&Tensor<M>>,
    weight: Option<&Tensor<M>>,
    scale: f32,
    centre: f32,
    epsilon: f32,
    mean: bool,
) -> Result<Tensor<M>> {
    let wide = x.cast(Dtype::F32)?;
    let weight = match weight {
        Some(weight) if centre != 0.0 => Some(weight.add(centre)?),
        weight => weight.cloned(),
    };
    let normed = match &weight {
        Some(weight) if mean => scaled(wide.rms_norm(weight, epsilon)?, scale)?,
        weight => {
            let sum = wide.square()?.sum_keep(&[-1])?;
            let sum = if mean { sum.multiply(1.0 / x.dimension(-1) as f32)? } else { sum };
            // The factor is one number a vector, so scaling it is cheaper than scaling the result.
            let normed = wide.multiply(&scaled(sum.add(epsilon)?.rsqrt()?, scale)?)?;
            weight.as_ref().map_or_else(|| Ok(normed.clone()), |weight| normed.multiply(weight))?
        }
    };
    let Some(gate) = gate else { return normed.cast(x.dtype()) };
    let gate = gate.cast(Dtype::F32)?.reshape(&[-1])?;
    portable_swiglu(&gate, &normed.reshape(&[-1])?)?.reshape(x.shape())?.cast(x.dtype())
}

fn scaled<M: Graph>(x: Tensor<M>, scale: f32) -> Result<Tensor<M>> {
    if scale == 1.0 { Ok(x) } else { x.multiply(scale) }
}
