//! The cotangents of what tokens write, as far as they come from the outputs of the same chunk.

use cotangent::stage;

use crate::delta_rule::stages::{CHUNK, DECAY, PAIRS, PRODUCTS};

/// `P^T dY`, a part of `dD`. One threadgroup computes one chunk of one value head; each of its simdgroups sixteen tokens.
#[stage(
    grid = (2 * L, Hv, B),
    threads = (2 * C, 1, 1),
    headers = [CHUNK, PAIRS, PRODUCTS, DECAY],
    cases = [
        (B = 1, L = 16, Hk = 1, Hv = 1, Dk = 16, Dv = 16, C = 16),
        (B = 2, L = 64, Hk = 1, Hv = 3, Dk = 32, Dv = 16, C = 32),
    ],
)]
pub(crate) fn local_cotangents<F: Float, const C: usize, const Dk: usize, const Dv: usize>(
    queries: In![F; B, L, Hk, Dk],
    keys: In![F; B, L, Hk, Dk],
    #[values(-2.0..0.0)] gates: In![f32; B, Hv, L, 2],
    y_cotangent: In![F; B, L, Hv, Dv],
    written_cotangent_here: Out![f32; B, Hv, L, Dv],
) {
    metal! {
        constexpr int TILES = C / 16;
        const Chunk chunk = find_chunk<C>(threadgroup_position_in_grid, L, Hv);
        const int thread_index = thread_index_in_threadgroup;
        const int own = simdgroup_index_in_threadgroup;
        const int key_stride = Hk * Dk;
        const int value_stride = Hv * Dv;
        const device F* query = queries + chunk.token * key_stride + chunk.head / (Hv / Hk) * Dk;
        const device F* key = keys + (chunk.token + own * 16) * key_stride + chunk.head / (Hv / Hk) * Dk;
        const device F* d_output = y_cotangent + chunk.token * value_stride + chunk.head * Dv;

        threadgroup Gates since[C];
        if (thread_index < C) { since[thread_index] = gates_at(gates, chunk.cell + thread_index); }
        threadgroup_barrier(mem_flags::mem_threadgroup);

        // These are the own columns of the scores, transposed.
        tile<float, 16, 16> scores[TILES];
        #pragma unroll
        for (int i = 0; i < TILES; ++i) { scores[i] = tile<float, 16, 16>(0.0f); }
        for (int k = 0; k < Dk; k += 16) {
            tile<F, 16, 16> own_key;
            tile_load(own_key, in_pairs(key + k), key_stride / 2);
            add_scores<F, TILES>(scores, own_key, query + k, key_stride, own, TILES - 1);
        }
        #pragma unroll
        for (int i = 0; i < TILES; ++i) {
            tile_for_each(scores[i], row, column, value) {
                const int earlier = own * 16 + row;
                const int later = i * 16 + column;
                value = earlier <= later ? value * decay_between(since[earlier], since[later]) : 0.0f;
            }
        }
        for (int d = 0; d < Dv; d += 16) {
            const tile<float, 16, 16> sum = sum_of_tokens<F, TILES>(scores, d_output + d, value_stride, own, TILES - 1);
            tile_store(sum, in_pairs(written_cotangent_here + (chunk.cell + own * 16) * Dv + d * 16), 8);
        }
    }
}
