//! The cotangents of a chunk's scores, and of what its tokens write.

use cotangent::stage;

use crate::delta_rule::stages::{CHUNK, FLOAT_PRODUCTS, FLOATS, LOWER_TILES, PAIRS, SOLVED};

/// One threadgroup computes one chunk of one value head; each of its simdgroups sixteen tokens.
///
/// - `solved_cotangent`: `z`, and `value_gradient` the same in the dtype of the values;
/// - `query_scores_cotangent`, `key_scores_cotangent`: the tiles of `(dY_i.u_j) beta_j` and of `-(z_i.u_j) beta_j` on and below
///   the diagonal.
#[stage(
    dims = [TILES = C / 16, PACKED = TILES * (TILES + 1) / 2 * 256],
    grid = (2 * L, Hv, B),
    threads = (2 * C, 1, 1),
    headers = [CHUNK, PAIRS, FLOATS, FLOAT_PRODUCTS, LOWER_TILES, SOLVED],
    cases = [
        (B = 1, L = 16, Hv = 1, Dv = 16, C = 16),
        (B = 2, L = 64, Hv = 3, Dv = 16, C = 32),
        (B = 1, L = 64, Hv = 2, Dv = 32, C = 64),
    ],
)]
pub(crate) fn score_cotangents_by_channel<F: Float, G: Float, const C: usize, const Dv: usize>(
    #[values(0.0..1.0)] beta: In![G; B, L, Hv],
    key_scores: In![f32; B, Hv, L / C, PACKED],
    inverse: In![f32; B, Hv, L / C, PACKED],
    errors: In![f32; B, Hv, L, Dv],
    y_cotangent: In![F; B, L, Hv, Dv],
    written_cotangent: In![f32; B, Hv, L, Dv],
    solved_cotangent: Out![f32; B, Hv, L, Dv],
    query_scores_cotangent: Out![f32; B, Hv, L / C, PACKED],
    key_scores_cotangent: Out![f32; B, Hv, L / C, PACKED],
    value_gradient: Out![F; B, L, Hv, Dv],
    beta_gradient: Out![G; B, L, Hv],
) {
    metal! {
        const Chunk chunk = find_chunk<C>(threadgroup_position_in_grid, L, Hv);
        const int thread_index = thread_index_in_threadgroup;
        const int own = simdgroup_index_in_threadgroup;
        const ulong here = (chunk.token + own * 16) * Hv + chunk.head;
        const device float* error = errors + chunk.cell * Dv;
        const device float* d_write = written_cotangent + chunk.cell * Dv;

        threadgroup float strength[C];
        // The gradients of beta that come through the scores of keys.
        threadgroup float overlaps[PACKED];
        threadgroup float along[C * 16];

        if (thread_index < C) { strength[thread_index] = float(beta[(chunk.token + thread_index) * Hv + chunk.head]); }
        threadgroup_barrier(mem_flags::mem_threadgroup);

        // These are the products of the rows of dY and of z (the gradient of the values) with all earlier rows of u.
        tile<float, 16, 16> by_output[TILES];
        tile<float, 16, 16> by_error[TILES];
        tile<float, 16, 16> d_strength;
        solve_cotangents<F, TILES>(
            by_output, by_error, d_strength, inverse + chunk.place * PACKED, strength, error, d_write,
            y_cotangent + here * Dv, solved_cotangent + (chunk.cell + own * 16) * Dv, value_gradient + here * Dv, Dv, Hv * Dv, own);
        tile_store(d_strength, along + own * 256, 16);

        #pragma unroll
        for (int j = 0; j < TILES; ++j) {
            if (j <= own) {
                const ulong at = chunk.place * PACKED + lower_tile(own, j);
                tile<float, 16, 16> scores;
                tile_load(scores, in_pairs(key_scores + at), 8);
                tile_for_each(by_output[j], row, column, value) {
                    value = j * 16 + column <= own * 16 + row ? value * strength[j * 16 + column] : 0.0f;
                }
                tile_for_each(by_error[j], row, column, value) { value = j * 16 + column < own * 16 + row ? value : 0.0f; }
                tile<float, 16, 16> overlap(0.0f);
                tile_multiply_accumulate_elements(overlap, by_error[j], scores);
                tile_store(overlap, overlaps + lower_tile(own, j), 16);
                tile_for_each(by_error[j], row, column, value) { value *= -strength[j * 16 + column]; }
                tile_store(by_output[j], in_pairs(query_scores_cotangent + at), 8);
                tile_store(by_error[j], in_pairs(key_scores_cotangent + at), 8);
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (thread_index < C) {
            float d_own = 0.0f;
            for (int k = 0; k < 16; ++k) { d_own += along[thread_index * 16 + k]; }
            for (int i = thread_index + 1; i < C; ++i) {
                d_own -= overlaps[lower_tile(i / 16, thread_index / 16) + i % 16 * 16 + thread_index % 16];
            }
            beta_gradient[(chunk.token + thread_index) * Hv + chunk.head] = G(d_own);
        }
    }
}
