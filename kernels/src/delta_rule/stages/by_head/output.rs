//! The outputs of a chunk, from the state it begins with and what its tokens write.

use cotangent::stage;

use crate::delta_rule::stages::{CHUNK, DECAY, FLOAT_PRODUCTS, FLOATS, PAIRS, PRODUCTS};

/// `Y = G Q S^T + P B u`. One threadgroup computes one chunk of one value head; each of its simdgroups sixteen tokens.
#[stage(
    grid = (2 * L, Hv, B),
    threads = (2 * C, 1, 1),
    headers = [CHUNK, PAIRS, FLOATS, PRODUCTS, FLOAT_PRODUCTS, DECAY],
    cases = [
        (B = 1, L = 16, Hk = 1, Hv = 1, Dk = 16, Dv = 16, C = 16),
        (B = 2, L = 64, Hk = 1, Hv = 3, Dk = 32, Dv = 16, C = 32),
    ],
)]
pub(crate) fn chunk_outputs<F: Float, G: Float, const C: usize, const Dk: usize, const Dv: usize>(
    queries: In![F; B, L, Hk, Dk],
    keys: In![F; B, L, Hk, Dk],
    #[values(0.0..1.0)] beta: In![G; B, L, Hv],
    #[values(-2.0..0.0)] gates: In![f32; B, Hv, L, 2],
    errors: In![f32; B, Hv, L, Dv],
    chunk_states: In![f32; B, Hv, L / C, Dv, Dk],
    y: Out![F; B, L, Hv, Dv],
) {
    metal! {
        constexpr int TILES = C / 16;
        constexpr int WIDTH = Dk / 16;
        const Chunk chunk = find_chunk<C>(threadgroup_position_in_grid, L, Hv);
        const int thread_index = thread_index_in_threadgroup;
        const int own = simdgroup_index_in_threadgroup;
        const int key_stride = Hk * Dk;
        const device F* query = queries + (chunk.token + own * 16) * key_stride + chunk.head / (Hv / Hk) * Dk;
        const device F* key = keys + chunk.token * key_stride + chunk.head / (Hv / Hk) * Dk;
        const device float* state = chunk_states + chunk.place * Dv * Dk;

        threadgroup float strength[C];
        threadgroup Gates since[C];
        if (thread_index < C) {
            since[thread_index] = gates_at(gates, chunk.cell + thread_index);
            strength[thread_index] = float(beta[(chunk.token + thread_index) * Hv + chunk.head]);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);

        tile<F, 16, 16> own_query[WIDTH];
        tile<float, 16, 16> scores[TILES];
        #pragma unroll
        for (int j = 0; j < TILES; ++j) { scores[j] = tile<float, 16, 16>(0.0f); }
        #pragma unroll
        for (int k = 0; k < WIDTH; ++k) {
            tile_load(own_query[k], in_pairs(query + k * 16), key_stride / 2);
            add_scores<F, TILES>(scores, own_query[k], key + k * 16, key_stride, 0, own);
        }
        #pragma unroll
        for (int j = 0; j < TILES; ++j) {
            tile_for_each(scores[j], row, column, value) {
                const int later = own * 16 + row;
                const int earlier = j * 16 + column;
                value = earlier <= later ? value * decay_between(since[earlier], since[later]) * strength[earlier] : 0.0f;
            }
        }
        for (int d = 0; d < Dv; d += 16) {
            tile<float, 16, 16> sum(0.0f);
            #pragma unroll
            for (int k = 0; k < WIDTH; ++k) {
                right_tile<float, 16, 16> across;
                tile_load_right_transposed(across, in_pairs(state + d * Dk + k * 256), 8);
                tile_multiply_accumulate(sum, own_query[k], across);
            }
            tile_for_each(sum, row, column, value) { value *= decay_since(since[own * 16 + row]); }
            add_floats<F, TILES>(sum, scores, errors + chunk.cell * Dv + d * 16, 16 * Dv, 0, own);
            tile_store(sum, in_pairs(y + ((chunk.token + own * 16) * Hv + chunk.head) * Dv + d), Hv * Dv / 2);
        }
    }
}
