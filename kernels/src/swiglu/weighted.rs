//! SwiGLU with a weight for each row, in one launch each way.

use cotangent::{Graph, Result, Tensor, differentiable, stage};

use crate::parts::PARTS;
use crate::sigmoid::SIGMOID;

use super::portable::portable_swiglu;

/// The sigmoid of the part of a row that a lane reads at once.
const SIGMOID_OF_PART: &str = "
inline float sigmoid_of_part(float x) { return sigmoid_of(x); }
inline float4 sigmoid_of_part(float4 x) {
  return float4(sigmoid_of(x.x), sigmoid_of(x.y), sigmoid_of(x.z), sigmoid_of(x.w));
}
";

/// `y = w silu(gate) up`, rounded once: gate and up `[R, W]`, a weight w for each row `[R]`.
///
/// Each simdgroup computes one row. Inputs have eight elements or more, because smaller ones lie in another address space on
/// Metal.
#[differentiable(
    backward = fused_weighted_swiglu_backward,
    fallback = weighted_swiglu_by_operations,
    requires = [R <= 67108864, R * W >= 8],
    headers = [SIGMOID, PARTS, SIGMOID_OF_PART],
    grid = (256 * ceil_div(R, 8), 1, 1),
    threads = (256, 1, 1),
    cases = [(R = 11, W = 7), (R = 3, W = 12), (R = 2, W = 260)],
)]
pub fn fused_weighted_swiglu<T: Float, const W: usize>(
    gate: In![T; R, W],
    up: In![T; R, W],
    weights: In![f32; R],
    y: Out![T; R, W],
) {
    metal! {
        int row = int(threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup);
        if (row >= R) { return; }
        float weight = weights[row];
        ulong start = ulong(uint(row)) * ulong(W);
        auto gates = (const device part_of<T, W>*)(gate + start);
        auto ups = (const device part_of<T, W>*)(up + start);
        auto to = (device part_of<T, W>*)(y + start);
        // All loads come before the first store, because the compiler cannot know that a store does not change a later load.
        part_of<T, W> of_gate[4];
        part_of<T, W> of_up[4];
        for (int first = int(thread_index_in_simdgroup); first < parts_of_row<W>(); first += 128) {
            #pragma unroll
            for (int i = 0; i < 4; ++i) {
                if (first + 32 * i < parts_of_row<W>()) {
                    of_gate[i] = gates[first + 32 * i];
                    of_up[i] = ups[first + 32 * i];
                }
            }
            #pragma unroll
            for (int i = 0; i < 4; ++i) {
                if (first + 32 * i < parts_of_row<W>()) {
                    auto z = part_as_floats(of_gate[i]);
                    to[first + 32 * i] = rounded_part<T>(z * sigmoid_of_part(z) * part_as_floats(of_up[i]) * weight);
                }
            }
        }
    }
}

/// The gradients are computed in one launch, [`weighted_swiglu_gradients`].
#[differentiable(backward_of = fused_weighted_swiglu, stages = [weighted_swiglu_gradients])]
pub fn fused_weighted_swiglu_backward<T: Float, const W: usize>(
    gate: In![T; R, W],
    up: In![T; R, W],
    weights: In![f32; R],
    d_y: In![T; R, W],
    d_gate: Out![T; R, W],
    d_up: Out![T; R, W],
    d_weights: Out![f32; R],
) {
    let inputs = WeightedSwigluGradientsInputs { gate, up, weights, cotangent: d_y };
    let found = weighted_swiglu_gradients(stages, inputs)?;
    Ok(Outputs {
        d_gate: Some(found.gate_gradient),
        d_up: Some(found.up_gradient),
        d_weights: Some(found.weight_gradients),
    })
}

/// With s the sigmoid of the gate: d_gate = w d_y up s (1 + gate (1 - s)), d_up = w d_y gate s, d_w = the sum over a row of d_y
/// gate s up.
#[stage(
    requires = [R <= 67108864, R * W >= 8],
    headers = [SIGMOID, PARTS, SIGMOID_OF_PART],
    grid = (256 * ceil_div(R, 8), 1, 1),
    threads = (256, 1, 1),
    cases = [(R = 11, W = 7), (R = 3, W = 12), (R = 2, W = 260)],
)]
fn weighted_swiglu_gradients<T: Float, const W: usize>(
    gate: In![T; R, W],
    up: In![T; R, W],
    weights: In![f32; R],
    cotangent: In![T; R, W],
    gate_gradient: Out![T; R, W],
    up_gradient: Out![T; R, W],
    weight_gradients: Out![f32; R],
) {
    metal! {
        int row = int(threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup);
        if (row >= R) { return; }
        float weight = weights[row];
        ulong start = ulong(uint(row)) * ulong(W);
        auto gates = (const device part_of<T, W>*)(gate + start);
        auto ups = (const device part_of<T, W>*)(up + start);
        auto slopes = (const device part_of<T, W>*)(cotangent + start);
        auto to_gate = (device part_of<T, W>*)(gate_gradient + start);
        auto to_up = (device part_of<T, W>*)(up_gradient + start);
        float sum = 0.0f;
        part_of<T, W> of_gate[4];
        part_of<T, W> of_up[4];
        part_of<T, W> of_slope[4];
        for (int first = int(thread_index_in_simdgroup); first < parts_of_row<W>(); first += 128) {
            #pragma unroll
            for (int i = 0; i < 4; ++i) {
                if (first + 32 * i < parts_of_row<W>()) {
                    of_gate[i] = gates[first + 32 * i];
                    of_up[i] = ups[first + 32 * i];
                    of_slope[i] = slopes[first + 32 * i];
                }
            }
            #pragma unroll
            for (int i = 0; i < 4; ++i) {
                if (first + 32 * i < parts_of_row<W>()) {
                    auto z = part_as_floats(of_gate[i]);
                    auto s = sigmoid_of_part(z);
                    auto through_up = part_as_floats(of_slope[i]) * z * s;
                    auto through_gate = part_as_floats(of_slope[i]) * part_as_floats(of_up[i]) * s * (z * (s * -1.0f + 1.0f) + 1.0f);
                    sum += sum_of_part(through_up * part_as_floats(of_up[i]));
                    to_up[first + 32 * i] = rounded_part<T>(through_up * weight);
                    to_gate[first + 32 * i] = rounded_part<T>(through_gate * weight);
                }
            }
        }
        float total = simd_sum(sum);
        if (thread_index_in_simdgroup == 0u) { weight_gradients[row] = total; }
    }
}

fn weighted_swiglu_by_operations<M: Graph>(gate: &Tensor<M>, up: &Tensor<M>, weights: &Tensor<M>) -> Result<Tensor<M>> {
    let y = portable_swiglu(&gate.reshape(&[-1])?, &up.reshape(&[-1])?)?.reshape(gate.shape())?;
    y.multiply(&weights.expand_dims(1)?.cast(y.dtype())?)
}

cotangent::calls! { "fused_weighted_swiglu": super::portable::portable_swiglu }
