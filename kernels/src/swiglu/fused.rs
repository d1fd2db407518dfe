//! SwiGLU in one launch each way. The sigmoid is computed again in the backward pass: on a GPU that costs less than
//! keeping it.

use cotangent::differentiable;

use super::portable::portable_swiglu;

/// `silu(gate) * up` of flat operands, rounded once.
#[differentiable(
    backward = fused_swiglu_backward,
    fallback = portable_swiglu,
    grid = (256 * ceil_div(N, 1024), 1, 1),
    threads = (256, 1, 1),
    cases = [(N = 1), (N = 37), (N = 2051)],
)]
pub fn fused_swiglu<T: Float>(gate: In![T; N], up: In![T; N], y: Out![T; N]) {
    metal! {
        // Four elements a thread keep enough loads in flight; neighbours in memory go to neighbouring threads.
        uint first = threadgroup_position_in_grid.x * 1024u + thread_position_in_threadgroup.x;
        for (uint index = first; index < min(first + 1024u, uint(N)); index += 256u) {
            float value = float(gate[index]);
            y[index] = T(value / (1.0f + exp(-value)) * float(up[index]));
        }
    }
}

/// d_gate = d_y up s (1 + gate (1 - s)), d_up = d_y gate s, with s the sigmoid of the gate.
#[differentiable(backward_of = fused_swiglu, grid = (256 * ceil_div(N, 1024), 1, 1), threads = (256, 1, 1))]
pub fn fused_swiglu_backward<T: Float>(
    gate: In![T; N],
    up: In![T; N],
    d_y: In![T; N],
    d_gate: Out![T; N],
    d_up: Out![T; N],
) {
    metal! {
        uint first = threadgroup_position_in_grid.x * 1024u + thread_position_in_threadgroup.x;
        for (uint index = first; index < min(first + 1024u, uint(N)); index += 256u) {
            float value = float(gate[index]);
            float sigmoid = 1.0f / (1.0f + exp(-value));
            float slope = float(d_y[index]);
            d_up[index] = T(slope * value * sigmoid);
            d_gate[index] = T(slope * float(up[index]) * sigmoid * (1.0f + value * (1.0f - sigmoid)));
        }
    }
}
