//! The attention gate in one launch each way.

use cotangent::{Graph, Result, Tensor, differentiable};

/// `attended * sigmoid(gates)`, heads and tokens changing places on the way.
#[differentiable(
    backward = fused_attention_gate_backward,
    fallback = attention_gate_by_operations,
    strided,
    grid = (256 * ceil_div(B * T * H * D, 1024), 1, 1),
    threads = (256, 1, 1),
    cases = [(B = 1, H = 1, T = 1, D = 1), (B = 2, H = 3, T = 5, D = 7), (B = 1, H = 2, T = 13, D = 48)],
)]
pub fn fused_attention_gate<F: Float>(attended: In![F; B, H, T, D], gates: In![F; B, T, H, D], y: Out![F; B, T, H, D]) {
    metal! {
        uint first = threadgroup_position_in_grid.x * 1024u + thread_position_in_threadgroup.x;
        for (uint index = first; index < min(first + 1024u, uint(B * T * H * D)); index += 256u) {
            uint lane = index % D;
            uint head = index / D % H;
            uint token = index / (D * H) % T;
            uint row = index / (D * H * T);
            float value = float(attended[row * attended_strides[0] + head * attended_strides[1]
                + token * attended_strides[2] + lane * attended_strides[3]]);
            float gate = float(gates[row * gates_strides[0] + token * gates_strides[1]
                + head * gates_strides[2] + lane * gates_strides[3]]);
            y[index] = F(value / (1.0f + exp(-gate)));
        }
    }
}

/// With s the sigmoid of the gate: d_attended = d_y s, d_gates = d_y attended s (1 - s).
#[differentiable(
    backward_of = fused_attention_gate,
    strided,
    grid = (256 * ceil_div(B * T * H * D, 1024), 1, 1),
    threads = (256, 1, 1),
)]
pub fn fused_attention_gate_backward<F: Float>(
    attended: In![F; B, H, T, D],
    gates: In![F; B, T, H, D],
    d_y: In![F; B, T, H, D],
    d_attended: Out![F; B, H, T, D],
    d_gates: Out![F; B, T, H, D],
) {
    metal! {
        uint first = threadgroup_position_in_grid.x * 1024u + thread_position_in_threadgroup.x;
        for (uint index = first; index < min(first + 1024u, uint(B * T * H * D)); index += 256u) {
            uint lane = index % D;
            uint head = index / D % H;
            uint token = index / (D * H) % T;
            uint row = index / (D * H * T);
            float value = float(attended[row * attended_strides[0] + head * attended_strides[1]
                + token * attended_strides[2] + lane * attended_strides[3]]);
            float gate = float(gates[row * gates_strides[0] + token * gates_strides[1]
                + head * gates_strides[2] + lane * gates_strides[3]]);
            float slope = float(d_y[row * d_y_strides[0] + token * d_y_strides[1]
                + head * d_y_strides[2] + lane * d_y_strides[3]]);
            float sigmoid = 1.0f / (1.0f + exp(-gate));
            d_attended[((ulong(row) * H + head) * T + token) * D + lane] = F(slope * sigmoid);
            d_gates[index] = F(slope * value * sigmoid * (1.0f - sigmoid));
        }
    }
}

/// The same gate, composed of operations.
fn attention_gate_by_operations<M: Graph>(attended: &Tensor<M>, gates: &Tensor<M>) -> Result<Tensor<M>> {
    attended.swap_axes(1, 2)?.multiply(&gates.sigmoid()?)
}
