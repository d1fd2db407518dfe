//! The cotangents of what tokens write, as far as they come from the outputs of the same chunk.

use cotangent::stage;

use crate::delta_rule::stages::{CHUNK, LOWER_TILES, PAIRS, PRODUCTS};

/// `P^T dY`, a part of `dD`. One threadgroup computes one chunk of one value head; each of its simdgroups sixteen tokens.
#[stage(
    dims = [TILES = C / 16, PACKED = TILES * (TILES + 1) / 2 * 256],
    grid = (2 * L, Hv, B),
    threads = (2 * C, 1, 1),
    headers = [CHUNK, PAIRS, PRODUCTS, LOWER_TILES],
    cases = [
        (B = 1, L = 16, Hv = 1, Dv = 16, C = 16),
        (B = 2, L = 64, Hv = 3, Dv = 16, C = 32),
    ],
)]
pub(crate) fn local_cotangents_by_channel<F: Float, const C: usize, const Dv: usize>(
    query_scores: In![f32; B, Hv, L / C, PACKED],
    y_cotangent: In![F; B, L, Hv, Dv],
    written_cotangent_here: Out![f32; B, Hv, L, Dv],
) {
    metal! {
        const Chunk chunk = find_chunk<C>(threadgroup_position_in_grid, L, Hv);
        const int own = simdgroup_index_in_threadgroup;
        const device F* d_output = y_cotangent + (chunk.token * Hv + chunk.head) * Dv;
        device float* written = written_cotangent_here + (chunk.cell + own * 16) * Dv;

        tile<float, 16, 16> scores[TILES];
        #pragma unroll
        for (int i = 0; i < TILES; ++i) {
            if (i >= own) { tile_load_transposed(scores[i], query_scores + chunk.place * PACKED + lower_tile(i, own), 16); }
        }
        for (int d = 0; d < Dv; d += 16) {
            const tile<float, 16, 16> sum = sum_of_tokens<F, TILES>(scores, d_output + d, Hv * Dv, own, TILES - 1);
            tile_store(sum, in_pairs(written + d * 16), 8);
        }
    }
}
