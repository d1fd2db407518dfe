//! The cotangent of a state, row by row.

use cotangent::stage;

/// From the last token to the first: with `P` the cotangent of the state after a token, `w = P k` is that of what it
/// writes. One simdgroup carries one row of `P` in its registers.
#[stage(
    grid = (32 * Dv, Hv, B),
    threads = (32, 1, 1),
    cases = [
        (B = 1, T = 1, Hk = 1, Hv = 1, Dk = 5, Dv = 3),
        (B = 3, T = 7, Hk = 2, Hv = 4, Dk = 33, Dv = 7),
    ],
)]
pub(crate) fn run_rows_back<F: Float, G: Float, const Dk: usize>(
    queries: In![F; B, T, Hk, Dk],
    keys: In![F; B, T, Hk, Dk],
    #[values(-2.0..0.0)] log_decay: In![f32; B, T, Hv, Dk],
    #[values(0.0..1.0)] beta: In![G; B, T, Hv],
    y_cotangent: In![F; B, T, Hv, Dv],
    final_cotangent: In![f32; B, Hv, Dv, Dk],
    written_cotangent: Out![f32; B, T, Hv, Dv],
    initial_cotangent: Out![f32; B, Hv, Dv, Dk],
) {
    metal! {
        constexpr int PART = (Dk + 31) / 32;
        const int lane = thread_index_in_simdgroup;
        const int row = threadgroup_position_in_grid.x;
        const int head = threadgroup_position_in_grid.y;
        const int batch = threadgroup_position_in_grid.z;
        const ulong heads = ulong(batch) * Hv + head;

        float d_state[PART];
        #pragma unroll
        for (int p = 0; p < PART; ++p) {
            const int k = p * 32 + lane;
            d_state[p] = k < Dk ? final_cotangent[(heads * Dv + row) * Dk + k] : 0.0f;
        }
        for (int t = T - 1; t >= 0; --t) {
            const ulong token = ulong(batch) * T + t;
            const ulong at = (token * Hv + head) * Dv + row;
            const ulong key = (token * Hk + head / (Hv / Hk)) * Dk;
            const float d_output = float(y_cotangent[at]);
            float d_written = 0.0f;
            #pragma unroll
            for (int p = 0; p < PART; ++p) {
                const int k = p * 32 + lane;
                if (k < Dk) {
                    d_state[p] += d_output * float(queries[key + k]);
                    d_written += d_state[p] * float(keys[key + k]);
                }
            }
            d_written = simd_sum(d_written);
            if (lane == 0) { written_cotangent[at] = d_written; }
            const float d_value = float(beta[token * Hv + head]) * d_written;
            #pragma unroll
            for (int p = 0; p < PART; ++p) {
                const int k = p * 32 + lane;
                if (k < Dk) {
                    d_state[p] = exp(log_decay[(token * Hv + head) * Dk + k]) * (d_state[p] - d_value * float(keys[key + k]));
                }
            }
        }
        #pragma unroll
        for (int p = 0; p < PART; ++p) {
            const int k = p * 32 + lane;
            if (k < Dk) { initial_cotangent[(heads * Dv + row) * Dk + k] = d_state[p]; }
        }
    }
}
