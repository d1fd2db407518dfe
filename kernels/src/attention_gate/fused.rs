//! The attention gate in one launch each way.

use cotangent::{Graph, Result, Tensor, differentiable};

use crate::rows::ROWS;
use crate::sigmoid::SIGMOID;

/// `attended * sigmoid(gates)`, heads and tokens changing places on the way.
#[differentiable(
    backward = fused_attention_gate_backward,
    fallback = attention_gate_by_operations,
    strided,
    headers = [ROWS, SIGMOID],
    grid = (256 * ceil_div(B * T * H, 8), 1, 1),
    threads = (256, 1, 1),
    cases = [
        (B = 1, H = 1, T = 1, D = 1),
        (B = 2, H = 3, T = 5, D = 7),
        (B = 1, H = 2, T = 13, D = 48),
        (B = 1, H = 2, T = 2, D = 1100),
    ],
)]
pub fn fused_attention_gate<F: Float, const D: usize>(
    attended: In![F; B, H, T, D],
    gates: In![F; B, T, H, D],
    y: Out![F; B, T, H, D],
) {
    metal! {
        // A simdgroup has one head, so that its places are found once for all lanes.
        uint place = threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup;
        uint head = place % H;
        uint token = place / H % T;
        uint row = place / (H * T);
        if (row >= uint(B)) { return; }
        ulong value_start[1] = {ulong(row) * attended_strides[0] + ulong(head) * attended_strides[1]
            + ulong(token) * attended_strides[2]};
        ulong gate_start[1] = {ulong(row) * gates_strides[0] + ulong(token) * gates_strides[1] + ulong(head) * gates_strides[2]};
        constexpr int PARTS = parts_of_lane<D>();
        F values[PARTS];
        F openings[PARTS];
        for (int column = int(thread_index_in_simdgroup); column < D; column += 32 * PARTS) {
            load_rows<1, PARTS>(values, attended, value_start, attended_strides[3], column, D);
            load_rows<1, PARTS>(openings, gates, gate_start, gates_strides[3], column, D);
            auto to = y + (ulong(place) * D + uint(column));
            #pragma unroll
            for (int i = 0; i < PARTS; ++i) {
                if (column + 32 * i < D) { to[32 * i] = F(float(values[i]) * sigmoid_of(float(openings[i]))); }
            }
        }
    }
}

/// Computes the gradients of [`fused_attention_gate`]. With s the sigmoid of the gate: d_attended = d_y s, d_gates =
/// d_y attended s (1 - s).
#[differentiable(
    backward_of = fused_attention_gate,
    strided,
    headers = [ROWS, SIGMOID],
    grid = (256 * ceil_div(B * T * H, 8), 1, 1),
    threads = (256, 1, 1),
)]
pub fn fused_attention_gate_backward<F: Float, const D: usize>(
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
        ulong value_start[1] = {ulong(row) * attended_strides[0] + ulong(head) * attended_strides[1]
            + ulong(token) * attended_strides[2]};
        ulong gate_start[1] = {ulong(row) * gates_strides[0] + ulong(token) * gates_strides[1] + ulong(head) * gates_strides[2]};
        ulong slope_start[1] = {ulong(row) * d_y_strides[0] + ulong(token) * d_y_strides[1] + ulong(head) * d_y_strides[2]};
        ulong attended_row = ((ulong(row) * H + head) * T + token) * D;
        constexpr int PARTS = parts_of_lane<D>();
        F values[PARTS];
        F openings[PARTS];
        F slopes[PARTS];
        for (int column = int(thread_index_in_simdgroup); column < D; column += 32 * PARTS) {
            load_rows<1, PARTS>(values, attended, value_start, attended_strides[3], column, D);
            load_rows<1, PARTS>(openings, gates, gate_start, gates_strides[3], column, D);
            load_rows<1, PARTS>(slopes, d_y, slope_start, d_y_strides[3], column, D);
            auto to_attended = d_attended + (attended_row + uint(column));
            auto to_gates = d_gates + (ulong(place) * D + uint(column));
            #pragma unroll
            for (int i = 0; i < PARTS; ++i) {
                if (column + 32 * i < D) {
                    float sigmoid = sigmoid_of(float(openings[i]));
                    float slope = float(slopes[i]) * sigmoid;
                    to_attended[32 * i] = F(slope);
                    to_gates[32 * i] = F(slope * float(values[i]) * (1.0f - sigmoid));
                }
            }
        }
    }
}

/// Computes the same gate from differentiable operations: the fallback.
fn attention_gate_by_operations<M: Graph>(attended: &Tensor<M>, gates: &Tensor<M>) -> Result<Tensor<M>> {
    attended.swap_axes(1, 2)?.multiply(&gates.sigmoid()?)
}
