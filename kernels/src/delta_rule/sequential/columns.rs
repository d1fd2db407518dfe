//! The gradients of queries, keys and the gates of channels, column by column.

use cotangent::stage;

/// Knowing what each token wrote and the cotangent of it, a column of the state and of its cotangent need no other: one
/// simdgroup runs sixteen tokens forward from a state that was kept, then back over them, and sums over rows.
#[stage(
    grid = (32 * Dk, Hv, B),
    threads = (32, 1, 1),
    cases = [
        (B = 1, T = 1, Hk = 1, Hv = 1, Dk = 5, Dv = 3),
        (B = 3, T = 19, Hk = 2, Hv = 4, Dk = 7, Dv = 33),
    ],
)]
pub(crate) fn run_columns_back<F: Float, G: Float, const Dv: usize>(
    queries: In![F; B, T, Hk, Dk],
    keys: In![F; B, T, Hk, Dk],
    #[values(-2.0..0.0)] log_decay: In![f32; B, T, Hv, Dk],
    #[values(0.0..1.0)] beta: In![G; B, T, Hv],
    errors: In![f32; B, T, Hv, Dv],
    entry_states: In![f32; B, Hv, ceil_div(T, 16), Dv, Dk],
    y_cotangent: In![F; B, T, Hv, Dv],
    written_cotangent: In![f32; B, T, Hv, Dv],
    final_cotangent: In![f32; B, Hv, Dv, Dk],
    query_gradient: Out![f32; B, T, Hv, Dk],
    key_gradient: Out![f32; B, T, Hv, Dk],
    log_decay_gradient: Out![f32; B, T, Hv, Dk],
) {
    metal! {
        constexpr int PART = (Dv + 31) / 32;
        const int lane = thread_index_in_simdgroup;
        const int column = threadgroup_position_in_grid.x;
        const int head = threadgroup_position_in_grid.y;
        const int batch = threadgroup_position_in_grid.z;
        const ulong heads = ulong(batch) * Hv + head;
        const int segments = (T + 15) / 16;

        float d_state[PART];
        #pragma unroll
        for (int p = 0; p < PART; ++p) {
            const int i = p * 32 + lane;
            d_state[p] = i < Dv ? final_cotangent[(heads * Dv + i) * Dk + column] : 0.0f;
        }
        for (int segment = segments - 1; segment >= 0; --segment) {
            float before[16][PART];
            float state[PART];
            #pragma unroll
            for (int p = 0; p < PART; ++p) {
                const int i = p * 32 + lane;
                state[p] = i < Dv ? entry_states[((heads * segments + segment) * Dv + i) * Dk + column] : 0.0f;
            }
            #pragma unroll
            for (int step = 0; step < 16; ++step) {
                const int t = segment * 16 + step;
                if (t < T) {
                    const ulong token = ulong(batch) * T + t;
                    const float decay = exp(log_decay[(token * Hv + head) * Dk + column]);
                    const float written = float(beta[token * Hv + head])
                        * float(keys[(token * Hk + head / (Hv / Hk)) * Dk + column]);
                    #pragma unroll
                    for (int p = 0; p < PART; ++p) {
                        const int i = p * 32 + lane;
                        before[step][p] = state[p];
                        if (i < Dv) { state[p] = decay * state[p] + written * errors[(token * Hv + head) * Dv + i]; }
                    }
                }
            }
            #pragma unroll
            for (int step = 15; step >= 0; --step) {
                const int t = segment * 16 + step;
                if (t < T) {
                    const ulong token = ulong(batch) * T + t;
                    const ulong at = (token * Hv + head) * Dk + column;
                    const ulong key_at = (token * Hk + head / (Hv / Hk)) * Dk + column;
                    const float decay = exp(log_decay[at]);
                    const float strength = float(beta[token * Hv + head]);
                    const float key = float(keys[key_at]);
                    const float query = float(queries[key_at]);
                    float d_query = 0.0f;
                    float d_key = 0.0f;
                    float d_gate = 0.0f;
                    #pragma unroll
                    for (int p = 0; p < PART; ++p) {
                        const int i = p * 32 + lane;
                        if (i < Dv) {
                            const ulong of_row = (token * Hv + head) * Dv + i;
                            const float written = strength * errors[of_row];
                            const float d_value = strength * written_cotangent[of_row];
                            const float d_output = float(y_cotangent[of_row]);
                            const float decayed = decay * before[step][p];
                            d_query += (decayed + written * key) * d_output;
                            d_state[p] += d_output * query;
                            d_key += d_state[p] * written - decayed * d_value;
                            const float d_decayed = d_state[p] - d_value * key;
                            d_gate += d_decayed * decayed;
                            d_state[p] = decay * d_decayed;
                        }
                    }
                    d_query = simd_sum(d_query);
                    d_key = simd_sum(d_key);
                    d_gate = simd_sum(d_gate);
                    if (lane == 0) {
                        query_gradient[at] = d_query;
                        key_gradient[at] = d_key;
                        log_decay_gradient[at] = d_gate;
                    }
                }
            }
        }
    }
}
