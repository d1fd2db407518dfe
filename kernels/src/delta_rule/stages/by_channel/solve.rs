//! The part of a chunk, from its scores, that does not depend on the state that it starts from.

use cotangent::stage;

use crate::delta_rule::stages::{CHUNK, INVERSE, LOWER_TILES, PAIRS, PRODUCTS};

/// One threadgroup computes one chunk of one value head; each of its simdgroups sixteen tokens.
///
/// - `reading_keys`: `G K`;
/// - `inverse`: the tiles of `M` on and below the diagonal;
/// - `solved_keys`: `-M G K`;
/// - `solved_values`: `M V`.
#[stage(
    dims = [TILES = C / 16, PACKED = TILES * (TILES + 1) / 2 * 256],
    grid = (2 * L, Hv, B),
    threads = (2 * C, 1, 1),
    headers = [CHUNK, PAIRS, PRODUCTS, LOWER_TILES, INVERSE],
    cases = [
        (B = 1, L = 16, Hv = 1, Dk = 16, Dv = 16, C = 16),
        (B = 2, L = 64, Hv = 3, Dk = 32, Dv = 16, C = 32),
        (B = 1, L = 64, Hv = 2, Dk = 16, Dv = 32, C = 64),
    ],
)]
pub(crate) fn solve_chunks_by_channel<F: Float, G: Float, const C: usize, const Dk: usize, const Dv: usize>(
    reading_keys: In![F; B, L, Hv, Dk],
    values: In![F; B, L, Hv, Dv],
    #[values(0.0..1.0)] beta: In![G; B, L, Hv],
    #[values(-0.2..0.2)] key_scores: In![f32; B, Hv, L / C, PACKED],
    inverse: Out![f32; B, Hv, L / C, PACKED],
    solved_keys: Out![f32; B, Hv, L, Dk],
    solved_values: Out![f32; B, Hv, L, Dv],
) {
    metal! {
        const Chunk chunk = find_chunk<C>(threadgroup_position_in_grid, L, Hv);
        const int thread_index = thread_index_in_threadgroup;
        const int own = simdgroup_index_in_threadgroup;
        const ulong here = chunk.token * Hv + chunk.head;

        threadgroup float strength[C];
        threadgroup float factor[PACKED];
        threadgroup float inverted[PACKED];

        if (thread_index < C) { strength[thread_index] = float(beta[(chunk.token + thread_index) * Hv + chunk.head]); }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (int j = 0; j <= own; ++j) {
            tile<float, 16, 16> scores;
            tile_load(scores, in_pairs(key_scores + chunk.place * PACKED + lower_tile(own, j)), 8);
            tile_for_each(scores, row, column, value) {
                const int earlier = j * 16 + column;
                value = earlier < own * 16 + row ? value * strength[earlier] : 0.0f;
            }
            tile_store(scores, factor + lower_tile(own, j), 16);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        invert_chunk<TILES>(factor, inverted, thread_index, own);
        for (int i = thread_index; i < PACKED; i += 2 * C) { inverse[chunk.place * PACKED + i] = inverted[i]; }

        tile<float, 16, 16> rows[TILES];
        #pragma unroll
        for (int j = 0; j < TILES; ++j) {
            if (j <= own) { tile_load(rows[j], inverted + lower_tile(own, j), 16); }
        }
        for (int d = 0; d < Dv; d += 16) {
            const tile<float, 16, 16> sum = sum_of_tokens<F, TILES>(rows, values + here * Dv + d, Hv * Dv, 0, own);
            tile_store(sum, in_pairs(solved_values + (chunk.cell + own * 16) * Dv + d * 16), 8);
        }
        for (int d = 0; d < Dk; d += 16) {
            tile<float, 16, 16> sum = sum_of_tokens<F, TILES>(rows, reading_keys + here * Dk + d, Hv * Dk, 0, own);
            tile_for_each(sum, row, column, value) { value = -value; }
            tile_store(sum, in_pairs(solved_keys + (chunk.cell + own * 16) * Dk + d * 16), 8);
        }
    }
}
