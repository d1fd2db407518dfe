//! The attention gate in one launch each way.

use cotangent::{Graph, Result, Tensor, differentiable};

use crate::sigmoid::SIGMOID;

/// `attended * sigmoid(gates)`, heads and tokens changing places on the way.
#[differentiable(
    backward = fused_attention_gate_backward,
    fallback = attention_gate_by_operations,
    strided,
    headers = [SIGMOID],
    grid = (256 * ceil_div(B * T * H, 8), 1, 1),
    threads = (256, 1, 1),
    cases = [(B = 1, H = 1, T = 1, D = 1), (B = 2, H = 3, T = 5, D = 7), (B = 1, H = 2, T = 13, D = 48)],
)]
pub fn fused_attention_gate<F: Float>(attended: In![F; B, H, T, D], gates: In![F; B, T, H, D], y: Out![F; B, T, H, D]) {
    metal! {
        // A simdgroup has a head: places are found once, for all its lanes.
        uint place = threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup;
        uint head = place % H;
        uint token = place / H % T;
        uint row = place / (H * T);
        if (row >= uint(B)) { return; }
        ulong value_row = ulong(row) * attended_strides[0] + ulong(head) * attended_strides[1]
            + ulong(token) * attended_strides[2];
        ulong gate_row = ulong(row) * gates_strides[0] + ulong(token) * gates_strides[1] + ulong(head) * gates_strides[2];
        for (uint lane = thread_index_in_simdgroup; lane < uint(D); lane += 32u) {
            float value = float(attended[value_row + lane * attended_strides[3]]);
            float gate = float(gates[gate_row + lane * gates_strides[3]]);
            y[ulong(place) * D + lane] = F(value * sigmoid_of(gate));
        }
    }
}

/// With s the sigmoid of the gate: d_attended = d_y s, d_gates = d_y attended s (1 - s).
#[differentiable(
    backward_of = fused_attention_gate,
    strided,
    headers = [SIGMOID],
    grid = (256 * ceil_div(B * T * H, 8), 1, 1),
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
        uint place = threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup;
        uint head = place % H;
        uint token = place / H % T;
        uint row = place / (H * T);
        if (row >= uint(B)) { return; }
        ulong value_row = ulong(row) * attended_strides[0] + ulong(head) * attended_strides[1]
            + ulong(token) * attended_strides[2];
        ulong gate_row = ulong(row) * gates_strides[0] + ulong(token) * gates_strides[1] + ulong(head) * gates_strides[2];
        ulong slope_row = ulong(row) * d_y_strides[0] + ulong(token) * d_y_strides[1] + ulong(head) * d_y_strides[2];
        ulong attended_row = ((ulong(row) * H + head) * T + token) * D;
        for (uint lane = thread_index_in_simdgroup; lane < uint(D); lane += 32u) {
            float value = float(attended[value_row + lane * attended_strides[3]]);
            float gate = float(gates[gate_row + lane * gates_strides[3]]);
            float slope = float(d_y[slope_row + lane * d_y_strides[3]]);
            float sigmoid = sigmoid_of(gate);
            d_attended[attended_row + lane] = F(slope * sigmoid);
            d_gates[ulong(place) * D + lane] = F(slope * value * sigmoid * (1.0f - sigmoid));
        }
    }
}

/// The same gate, composed of operations.
fn attention_gate_by_operations<M: Graph>(attended: &Tensor<M>, gates: &Tensor<M>) -> Result<Tensor<M>> {
    attended.swap_axes(1, 2)?.multiply(&gates.sigmoid()?)
}
