//! The outputs of a chunk, from the state it begins with and what its tokens write.

use cotangent::stage;

use crate::delta_rule::stages::{CHUNK, FLOAT_PRODUCTS, FLOATS, LOWER_TILES, PAIRS};

/// `Y = (G Q) S^T + P B u`. One threadgroup computes one chunk of one value head; each of its simdgroups sixteen tokens.
#[stage(
    dims = [TILES = C / 16, PACKED = TILES * (TILES + 1) / 2 * 256],
    grid = (2 * L, Hv, B),
    threads = (2 * C, 1, 1),
    headers = [CHUNK, PAIRS, FLOATS, FLOAT_PRODUCTS, LOWER_TILES],
    cases = [
        (B = 1, L = 16, Hv = 1, Dk = 16, Dv = 16, C = 16),
        (B = 2, L = 64, Hv = 3, Dk = 32, Dv = 16, C = 32),
    ],
)]
pub(crate) fn chunk_outputs_by_channel<F: Float, G: Float, const C: usize, const Dk: usize, const Dv: usize>(
    reading_queries: In![F; B, L, Hv, Dk],
    query_scores: In![f32; B, Hv, L / C, PACKED],
    #[values(0.0..1.0)] beta: In![G; B, L, Hv],
    errors: In![f32; B, Hv, L, Dv],
    chunk_states: In![f32; B, Hv, L / C, Dv, Dk],
    y: Out![F; B, L, Hv, Dv],
) {
    metal! {
        constexpr int WIDTH = Dk / 16;
        const Chunk chunk = find_chunk<C>(threadgroup_position_in_grid, L, Hv);
        const int own = simdgroup_index_in_threadgroup;
        const ulong here = (chunk.token + own * 16) * Hv + chunk.head;

        tile<F, 16, 16> query[WIDTH];
        #pragma unroll
        for (int k = 0; k < WIDTH; ++k) { tile_load(query[k], in_pairs(reading_queries + here * Dk + k * 16), Hv * Dk / 2); }
        tile<float, 16, 16> scores[TILES];
        #pragma unroll
        for (int j = 0; j < TILES; ++j) {
            if (j <= own) {
                tile_load(scores[j], in_pairs(query_scores + chunk.place * PACKED + lower_tile(own, j)), 8);
                tile_for_each(scores[j], row, column, value) {
                    value *= float(beta[(chunk.token + j * 16 + column) * Hv + chunk.head]);
                }
            }
        }
        for (int d = 0; d < Dv; d += 16) {
            tile<float, 16, 16> sum(0.0f);
            #pragma unroll
            for (int k = 0; k < WIDTH; ++k) {
                right_tile<float, 16, 16> across;
                tile_load_right_transposed(across, in_pairs(chunk_states + chunk.place * Dv * Dk + d * Dk + k * 256), 8);
                tile_multiply_accumulate(sum, query[k], across);
            }
            add_floats<F, TILES>(sum, scores, errors + chunk.cell * Dv + d * 16, 16 * Dv, 0, own);
            tile_store(sum, in_pairs(y + here * Dv + d), Hv * Dv / 2);
        }
    }
}
