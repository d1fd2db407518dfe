//! The part of a chunk that does not depend on the state that it starts from.

use cotangent::stage;

use crate::delta_rule::stages::{CHUNK, DECAY, INVERSE, LOWER_TILES, PAIRS, PRODUCTS};

/// One threadgroup computes one chunk of one value head; each of its simdgroups sixteen tokens.
///
/// - `gates`: the sum of log gates since the chunk's start, and what it lost to rounding;
/// - `inverse`: the tiles of `M` on and below the diagonal;
/// - `solved_keys`: `-M G K`;
/// - `solved_values`: `M V`.
#[stage(
    dims = [TILES = C / 16, PACKED = TILES * (TILES + 1) / 2 * 256],
    grid = (2 * L, Hv, B),
    threads = (2 * C, 1, 1),
    headers = [CHUNK, PAIRS, PRODUCTS, LOWER_TILES, DECAY, INVERSE],
    cases = [
        (B = 1, L = 16, Hk = 1, Hv = 1, Dk = 16, Dv = 16, C = 16),
        (B = 2, L = 64, Hk = 1, Hv = 3, Dk = 32, Dv = 16, C = 32),
        (B = 1, L = 64, Hk = 2, Hv = 2, Dk = 16, Dv = 32, C = 64),
    ],
)]
pub(crate) fn solve_chunks<F: Float, G: Float, const C: usize, const Dk: usize, const Dv: usize>(
    keys: In![F; B, L, Hk, Dk],
    values: In![F; B, L, Hv, Dv],
    #[values(-2.0..0.0)] log_decay: In![f32; B, L, Hv],
    #[values(0.0..1.0)] beta: In![G; B, L, Hv],
    gates: Out![f32; B, Hv, L, 2],
    inverse: Out![f32; B, Hv, L / C, PACKED],
    solved_keys: Out![f32; B, Hv, L, Dk],
    solved_values: Out![f32; B, Hv, L, Dv],
) {
    metal! {
        const Chunk chunk = find_chunk<C>(threadgroup_position_in_grid, L, Hv);
        const int thread_index = thread_index_in_threadgroup;
        const int own = simdgroup_index_in_threadgroup;
        const int key_stride = Hk * Dk;
        const int value_stride = Hv * Dv;
        const device F* key = keys + chunk.token * key_stride + chunk.head / (Hv / Hk) * Dk;
        const device F* value_at = values + chunk.token * value_stride + chunk.head * Dv;

        threadgroup float gate[C];
        threadgroup float strength[C];
        threadgroup Gates since[C];
        threadgroup float factor[PACKED];
        threadgroup float inverted[PACKED];

        if (thread_index < C) {
            gate[thread_index] = log_decay[(chunk.token + thread_index) * Hv + chunk.head];
            strength[thread_index] = float(beta[(chunk.token + thread_index) * Hv + chunk.head]);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (thread_index < C) {
            Gates sum = Gates{0.0f, 0.0f};
            for (int i = 0; i <= thread_index; ++i) { sum = add_gate(sum, gate[i]); }
            since[thread_index] = sum;
            gates[2 * (chunk.cell + thread_index)] = sum.sum;
            gates[2 * (chunk.cell + thread_index) + 1] = sum.rest;
        }

        // These are the key scores of the own tokens with all tokens before them.
        tile<float, 16, 16> scores[TILES];
        #pragma unroll
        for (int j = 0; j < TILES; ++j) { scores[j] = tile<float, 16, 16>(0.0f); }
        for (int k = 0; k < Dk; k += 16) {
            tile<F, 16, 16> own_key;
            tile_load(own_key, in_pairs(key + own * 16 * key_stride + k), key_stride / 2);
            add_scores<F, TILES>(scores, own_key, key + k, key_stride, 0, own);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        #pragma unroll
        for (int j = 0; j < TILES; ++j) {
            if (j <= own) {
                tile_for_each(scores[j], row, column, value) {
                    const int later = own * 16 + row;
                    const int earlier = j * 16 + column;
                    value = earlier < later ? value * decay_between(since[earlier], since[later]) * strength[earlier] : 0.0f;
                }
                tile_store(scores[j], factor + lower_tile(own, j), 16);
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);

        invert_chunk<TILES>(factor, inverted, thread_index, own);

        const ulong stored = chunk.place * PACKED;
        for (int i = thread_index; i < PACKED; i += 2 * C) { inverse[stored + i] = inverted[i]; }

        tile<float, 16, 16> rows[TILES];
        #pragma unroll
        for (int j = 0; j < TILES; ++j) {
            if (j <= own) { tile_load(rows[j], inverted + lower_tile(own, j), 16); }
        }
        for (int d = 0; d < Dv; d += 16) {
            const tile<float, 16, 16> sum = sum_of_tokens<F, TILES>(rows, value_at + d, value_stride, 0, own);
            tile_store(sum, in_pairs(solved_values + (chunk.cell + own * 16) * Dv + d * 16), 8);
        }
        #pragma unroll
        for (int j = 0; j < TILES; ++j) {
            if (j <= own) {
                tile_for_each(rows[j], row, column, value) { value *= -decay_since(since[j * 16 + column]); }
            }
        }
        for (int d = 0; d < Dk; d += 16) {
            const tile<float, 16, 16> sum = sum_of_tokens<F, TILES>(rows, key + d, key_stride, 0, own);
            tile_store(sum, in_pairs(solved_keys + (chunk.cell + own * 16) * Dk + d * 16), 8);
        }
    }
}
