//! What the backward pass computes again, and what of it needs no other chunk.

use cotangent::stage;

use super::{DECAY, FLOATS, PAIRS};

/// One threadgroup computes one chunk of one value head; each of its simdgroups sixteen tokens.
///
/// - `errors`: `u`, from the state that the forward pass saved;
/// - `written_cotangent_here`: `P^T dY`, the part of `dD` that comes from the chunk's own outputs.
#[stage(
    grid = (2 * L, Hv, B),
    threads = (2 * C, 1, 1),
    headers = [PAIRS, FLOATS, DECAY],
    cases = [
        (B = 1, L = 16, Hk = 1, Hv = 1, Dk = 16, Dv = 16, C = 16),
        (B = 2, L = 64, Hk = 1, Hv = 3, Dk = 32, Dv = 16, C = 32),
    ],
)]
pub(crate) fn recompute_chunks<F: Float, const C: usize, const Dk: usize, const Dv: usize>(
    queries: In![F; B, L, Hk, Dk],
    keys: In![F; B, L, Hk, Dk],
    #[values(-2.0..0.0)] gates: In![f32; B, Hv, L, 2],
    solved_keys: In![f32; B, Hv, L, Dk],
    solved_values: In![f32; B, Hv, L, Dv],
    chunk_states: In![f32; B, Hv, L / C, Dv, Dk],
    y_cotangent: In![F; B, L, Hv, Dv],
    errors: Out![f32; B, Hv, L, Dv],
    written_cotangent_here: Out![f32; B, Hv, L, Dv],
) {
    metal! {
        constexpr int TILES = C / 16;
        constexpr int WIDTH = Dk / 16;
        const int chunk = threadgroup_position_in_grid.x;
        const int head = threadgroup_position_in_grid.y;
        const int batch = threadgroup_position_in_grid.z;
        const int thread_index = thread_index_in_threadgroup;
        const int own = simdgroup_index_in_threadgroup;
        const ulong token = ulong(batch) * L + chunk * C;
        const ulong heads = ulong(batch) * Hv + head;
        const ulong cell = heads * L + chunk * C;
        const int key_stride = Hk * Dk;
        const int value_stride = Hv * Dv;
        const device F* query = queries + token * key_stride + head / (Hv / Hk) * Dk;
        const device F* key = keys + (token + own * 16) * key_stride + head / (Hv / Hk) * Dk;
        const device F* d_output = y_cotangent + token * value_stride + head * Dv;
        const device float* state = chunk_states + (heads * (L / C) + chunk) * Dv * Dk;

        threadgroup Gates since[C];
        if (thread_index < C) {
            since[thread_index] = Gates{gates[2 * (cell + thread_index)], gates[2 * (cell + thread_index) + 1]};
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);

        tile<float, 16, 16> reading[WIDTH];
        #pragma unroll
        for (int k = 0; k < WIDTH; ++k) { tile_load(reading[k], in_pairs(solved_keys + (cell + own * 16) * Dk + k * 16), Dk / 2); }
        for (int d = 0; d < Dv; d += 16) {
            tile<float, 16, 16> error;
            tile_load(error, in_pairs(solved_values + (cell + own * 16) * Dv + d), Dv / 2);
            #pragma unroll
            for (int k = 0; k < WIDTH; ++k) {
                right_tile<float, 16, 16> across;
                tile_load_right_transposed(across, in_pairs(state + d * Dk + k * 16), Dk / 2);
                multiply_floats<F>(error, reading[k], across);
            }
            tile_store(error, in_pairs(errors + (cell + own * 16) * Dv + d), Dv / 2);
        }

        // The own columns of the scores, transposed.
        tile<float, 16, 16> scores[TILES];
        #pragma unroll
        for (int i = 0; i < TILES; ++i) { scores[i] = tile<float, 16, 16>(0.0f); }
        for (int k = 0; k < Dk; k += 16) {
            tile<F, 16, 16> own_key;
            tile_load(own_key, in_pairs(key + k), key_stride / 2);
            #pragma unroll
            for (int i = 0; i < TILES; ++i) {
                if (i >= own) {
                    right_tile<F, 16, 16> other_query;
                    tile_load_right_transposed(other_query, in_pairs(query + i * 16 * key_stride + k), key_stride / 2);
                    tile_multiply_accumulate(scores[i], own_key, other_query);
                }
            }
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
            tile<float, 16, 16> sum(0.0f);
            #pragma unroll
            for (int i = 0; i < TILES; ++i) {
                if (i >= own) {
                    right_tile<F, 16, 16> right;
                    tile_load_right(right, d_output + i * 16 * value_stride + d, value_stride);
                    tile_multiply_accumulate(sum, scores[i], right);
                }
            }
            tile_store(sum, in_pairs(written_cotangent_here + (cell + own * 16) * Dv + d), Dv / 2);
        }
    }
}
