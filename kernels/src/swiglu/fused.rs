//! SwiGLU in one launch each way. The sigmoid is computed again in the backward pass: on a GPU that costs less than
//! keeping it.

use cotangent::differentiable;

use super::portable::portable_swiglu;
use crate::sigmoid::SIGMOID;

/// `silu(gate) * up` of flat operands, rounded once.
#[differentiable(
    backward = fused_swiglu_backward,
    fallback = portable_swiglu,
    headers = [SIGMOID],
    grid = (256 * ceil_div(N, 1024), 1, 1),
    threads = (256, 1, 1),
    cases = [(N = 1), (N = 37), (N = 2051)],
)]
pub fn fused_swiglu<T: Float>(gate: In![T; N], up: In![T; N], y: Out![T; N]) {
    metal! {
        uint first = threadgroup_position_in_grid.x * 1024u + thread_position_in_threadgroup.x;
        // Neighbouring threads load neighbouring elements, and each thread has four loads of each operand in flight.
        float gates[4];
        float ups[4];
        for (uint part = 0u; part < 4u; ++part) {
            uint index = min(first + part * 256u, uint(N - 1));
            gates[part] = float(gate[index]);
            ups[part] = float(up[index]);
        }
        for (uint part = 0u; part < 4u; ++part) {
            uint index = first + part * 256u;
            if (index < uint(N)) { y[index] = T(gates[part] * sigmoid_of(gates[part]) * ups[part]); }
        }
    }
}

/// d_gate = d_y up s (1 + gate (1 - s)), d_up = d_y gate s, with s the sigmoid of the gate.
#[differentiable(
    backward_of = fused_swiglu,
    headers = [SIGMOID],
    grid = (256 * ceil_div(N, 1024), 1, 1),
    threads = (256, 1, 1),
)]
pub fn fused_swiglu_backward<T: Float>(
    gate: In![T; N],
    up: In![T; N],
    d_y: In![T; N],
    d_gate: Out![T; N],
    d_up: Out![T; N],
) {
    metal! {
        uint first = threadgroup_position_in_grid.x * 1024u + thread_position_in_threadgroup.x;
        float gates[4];
        float ups[4];
        float slopes[4];
        for (uint part = 0u; part < 4u; ++part) {
            uint index = min(first + part * 256u, uint(N - 1));
            gates[part] = float(gate[index]);
            ups[part] = float(up[index]);
            slopes[part] = float(d_y[index]);
        }
        for (uint part = 0u; part < 4u; ++part) {
            uint index = first + part * 256u;
            if (index < uint(N)) {
                float sigmoid = sigmoid_of(gates[part]);
                d_up[index] = T(slopes[part] * gates[part] * sigmoid);
                d_gate[index] = T(slopes[part] * ups[part] * sigmoid * (1.0f + gates[part] * (1.0f - sigmoid)));
            }
        }
    }
}

cotangent::calls! { "fused_swiglu": portable_swiglu }
