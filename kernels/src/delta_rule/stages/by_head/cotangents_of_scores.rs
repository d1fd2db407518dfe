//! The cotangents of a chunk's scores, and of what its tokens write.

use cotangent::stage;

use crate::delta_rule::stages::{CHUNK, DECAY, FLOAT_PRODUCTS, FLOATS, LOWER_TILES, PAIRS, SOLVED};

/// One threadgroup computes one chunk of one value head; each of its simdgroups sixteen tokens.
///
/// - `solved_cotangent`: `z`, and `value_gradient` the same in the dtype of the values;
/// - `query_scores_cotangent`, `key_scores_cotangent`: the tiles of `R` and of `-N` on and below the diagonal;
/// - `log_decay_gradient`: what comes through the decays between tokens of the chunk.
#[stage(
    dims = [TILES = C / 16, PACKED = TILES * (TILES + 1) / 2 * 256],
    grid = (2 * L, Hv, B),
    threads = (2 * C, 1, 1),
    headers = [CHUNK, PAIRS, FLOATS, FLOAT_PRODUCTS, LOWER_TILES, SOLVED, DECAY],
    cases = [
        (B = 1, L = 16, Hk = 1, Hv = 1, Dk = 16, Dv = 16, C = 16),
        (B = 2, L = 64, Hk = 1, Hv = 3, Dk = 32, Dv = 16, C = 32),
        (B = 1, L = 64, Hk = 2, Hv = 2, Dk = 16, Dv = 32, C = 64),
    ],
)]
pub(crate) fn score_cotangents<F: Float, G: Float, const C: usize, const Dk: usize, const Dv: usize>(
    queries: In![F; B, L, Hk, Dk],
    keys: In![F; B, L, Hk, Dk],
    #[values(0.0..1.0)] beta: In![G; B, L, Hv],
    #[values(-2.0..0.0)] gates: In![f32; B, Hv, L, 2],
    inverse: In![f32; B, Hv, L / C, PACKED],
    errors: In![f32; B, Hv, L, Dv],
    y_cotangent: In![F; B, L, Hv, Dv],
    written_cotangent: In![f32; B, Hv, L, Dv],
    solved_cotangent: Out![f32; B, Hv, L, Dv],
    query_scores_cotangent: Out![f32; B, Hv, L / C, PACKED],
    key_scores_cotangent: Out![f32; B, Hv, L / C, PACKED],
    value_gradient: Out![F; B, L, Hv, Dv],
    log_decay_gradient: Out![f32; B, L, Hv],
    beta_gradient: Out![G; B, L, Hv],
) {
    metal! {
        const Chunk chunk = find_chunk<C>(threadgroup_position_in_grid, L, Hv);
        const int thread_index = thread_index_in_threadgroup;
        const int own = simdgroup_index_in_threadgroup;
        const int key_stride = Hk * Dk;
        const int value_stride = Hv * Dv;
        const device F* query = queries + chunk.token * key_stride + chunk.head / (Hv / Hk) * Dk;
        const device F* key = keys + chunk.token * key_stride + chunk.head / (Hv / Hk) * Dk;
        const ulong values_at = (chunk.token + own * 16) * value_stride + chunk.head * Dv;
        const device float* error = errors + chunk.cell * Dv;
        const device float* d_write = written_cotangent + chunk.cell * Dv;

        device float* solved = solved_cotangent + (chunk.cell + own * 16) * Dv;

        threadgroup float strength[C];
        threadgroup Gates since[C];
        // The gradients of the decays and of beta that come through the matrices of the chunk.
        threadgroup float decay_sums[PACKED];
        threadgroup float overlap_sums[PACKED];
        threadgroup float along[C * 16];

        if (thread_index < C) {
            since[thread_index] = gates_at(gates, chunk.cell + thread_index);
            strength[thread_index] = float(beta[(chunk.token + thread_index) * Hv + chunk.head]);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);

        // These are the products of the rows of dY and of z (the gradient of the values) with all earlier rows of u.
        tile<float, 16, 16> by_output[TILES];
        tile<float, 16, 16> by_error[TILES];
        tile<float, 16, 16> d_strength;
        solve_cotangents<F, TILES>(
            by_output, by_error, d_strength, inverse + chunk.place * PACKED, strength, error, d_write,
            y_cotangent + values_at, solved, value_gradient + values_at, Dv, value_stride, own);
        tile_store(d_strength, along + own * 256, 16);

        // The cotangents of the scores are stored; the gradients of the decays and of beta go to threadgroup memory.
        #pragma unroll
        for (int j = 0; j < TILES; ++j) {
            if (j <= own) {
                tile<float, 16, 16> query_scores(0.0f);
                tile<float, 16, 16> key_scores(0.0f);
                #pragma unroll 2
                for (int k = 0; k < Dk; k += 16) {
                    tile<F, 16, 16> own_query;
                    tile<F, 16, 16> own_key;
                    right_tile<F, 16, 16> right;
                    tile_load(own_query, in_pairs(query + own * 16 * key_stride + k), key_stride / 2);
                    tile_load(own_key, in_pairs(key + own * 16 * key_stride + k), key_stride / 2);
                    tile_load_right_transposed(right, in_pairs(key + j * 16 * key_stride + k), key_stride / 2);
                    tile_multiply_accumulate(query_scores, own_query, right);
                    tile_multiply_accumulate(key_scores, own_key, right);
                }
                tile_for_each(by_output[j], row, column, value) {
                    const int later = own * 16 + row;
                    const int earlier = j * 16 + column;
                    value = earlier <= later ? value * decay_between(since[earlier], since[later]) * strength[earlier] : 0.0f;
                }
                tile_for_each(by_error[j], row, column, value) {
                    const int later = own * 16 + row;
                    const int earlier = j * 16 + column;
                    value = earlier < later ? value * decay_between(since[earlier], since[later]) : 0.0f;
                }
                tile<float, 16, 16> decays(0.0f);
                tile<float, 16, 16> overlaps(0.0f);
                tile_multiply_accumulate_elements(decays, by_output[j], query_scores);
                tile_multiply_accumulate_elements(overlaps, by_error[j], key_scores);
                tile_store(decays, decay_sums + lower_tile(own, j), 16);
                tile_store(overlaps, overlap_sums + lower_tile(own, j), 16);
                tile_for_each(by_error[j], row, column, value) { value *= -strength[j * 16 + column]; }
                tile_store(by_output[j], in_pairs(query_scores_cotangent + chunk.place * PACKED + lower_tile(own, j)), 8);
                tile_store(by_error[j], in_pairs(key_scores_cotangent + chunk.place * PACKED + lower_tile(own, j)), 8);
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);

        float d_own_strength = 0.0f;
        if (thread_index < C) {
            const int tile_of = thread_index / 16;
            const int within = thread_index % 16;
            for (int k = 0; k < 16; ++k) { d_own_strength += along[thread_index * 16 + k]; }
            for (int i = thread_index + 1; i < C; ++i) {
                d_own_strength -= overlap_sums[lower_tile(i / 16, tile_of) + i % 16 * 16 + within];
            }
            // Along each row, an element becomes the sum of those before it.
            float sum = 0.0f;
            for (int j = 0; j <= thread_index; ++j) {
                const int at = lower_tile(tile_of, j / 16) + within * 16 + j % 16;
                const float next = decay_sums[at] - overlap_sums[at] * strength[j];
                decay_sums[at] = sum;
                sum += next;
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (thread_index < C) {
            float d_gate = 0.0f;
            for (int i = thread_index; i < C; ++i) {
                d_gate += decay_sums[lower_tile(i / 16, thread_index / 16) + i % 16 * 16 + thread_index % 16];
            }
            log_decay_gradient[(chunk.token + thread_index) * Hv + chunk.head] = d_gate;
            beta_gradient[(chunk.token + thread_index) * Hv + chunk.head] = G(d_own_strength);
        }
    }
}
