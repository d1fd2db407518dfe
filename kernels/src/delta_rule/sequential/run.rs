//! The recurrence over some tokens, one after the other.

use cotangent::stage;

/// The recurrence over `T` tokens; one simdgroup carries one row of a state in its registers.
///
/// - `steps`: how many tokens of each row count; the others leave the state alone, and their `y` is 0;
/// - `entry_states`: what every `EVERY`th token begins with, from the first on.
#[stage(
    grid = (32 * Dv, Hv, B),
    threads = (32, 1, 1),
    cases = [
        (B = 1, T = 1, Hk = 1, Hv = 1, Dk = 5, Dv = 3, EVERY = 16),
        (B = 3, T = 7, Hk = 2, Hv = 4, Dk = 33, Dv = 7, EVERY = 3),
    ],
)]
pub(crate) fn run_tokens<F: Float, G: Float, const Dk: usize, const EVERY: usize>(
    queries: In![F; B, T, Hk, Dk],
    keys: In![F; B, T, Hk, Dk],
    values: In![F; B, T, Hv, Dv],
    #[values(-2.0..0.0)] log_decay: In![f32; B, T, Hv],
    #[values(0.0..1.0)] beta: In![G; B, T, Hv],
    initial_state: In![f32; B, Hv, Dv, Dk],
    #[values(0..T + 1)] steps: Option<In![i32; B]>,
    y: Out![F; B, T, Hv, Dv],
    entry_states: Out![f32; B, Hv, ceil_div(T, EVERY), Dv, Dk],
    final_state: Out![f32; B, Hv, Dv, Dk],
) {
    metal! {
        constexpr int PART = (Dk + 31) / 32;
        const int lane = thread_index_in_simdgroup;
        const int row = threadgroup_position_in_grid.x;
        const int head = threadgroup_position_in_grid.y;
        const int batch = threadgroup_position_in_grid.z;
        const ulong heads = ulong(batch) * Hv + head;
        int count = T;
        if (HAS_steps) { count = min(T, int(steps[batch])); }

        float state[PART];
        #pragma unroll
        for (int p = 0; p < PART; ++p) {
            const int k = p * 32 + lane;
            state[p] = k < Dk ? initial_state[(heads * Dv + row) * Dk + k] : 0.0f;
        }
        for (int t = 0; t < T; ++t) {
            if (t % EVERY == 0) {
                const ulong kept = (heads * ((T + EVERY - 1) / EVERY) + t / EVERY) * Dv + row;
                #pragma unroll
                for (int p = 0; p < PART; ++p) {
                    const int k = p * 32 + lane;
                    if (k < Dk) { entry_states[kept * Dk + k] = state[p]; }
                }
            }
            const ulong token = ulong(batch) * T + t;
            const ulong at = (token * Hv + head) * Dv + row;
            float sum = 0.0f;
            if (t < count) {
                const ulong key = (token * Hk + head / (Hv / Hk)) * Dk;
                const float decay = exp(log_decay[token * Hv + head]);
                float answer = 0.0f;
                #pragma unroll
                for (int p = 0; p < PART; ++p) {
                    const int k = p * 32 + lane;
                    if (k < Dk) {
                        state[p] *= decay;
                        answer += state[p] * float(keys[key + k]);
                    }
                }
                const float delta = float(beta[token * Hv + head]) * (float(values[at]) - simd_sum(answer));
                #pragma unroll
                for (int p = 0; p < PART; ++p) {
                    const int k = p * 32 + lane;
                    if (k < Dk) {
                        state[p] += delta * float(keys[key + k]);
                        sum += state[p] * float(queries[key + k]);
                    }
                }
                sum = simd_sum(sum);
            }
            if (lane == 0) { y[at] = F(sum); }
        }
        #pragma unroll
        for (int p = 0; p < PART; ++p) {
            const int k = p * 32 + lane;
            if (k < Dk) { final_state[(heads * Dv + row) * Dk + k] = state[p]; }
        }
    }
}
