//! The gradients of a chunk's tokens, from the states and cotangents that the scans left and those of the scores.

use cotangent::stage;

use crate::delta_rule::stages::{CHUNK, DECAY, FLOATS, LOWER_TILES, PAIRS, STATES};

/// The gradients of queries, keys and log gates. Those of queries and keys are of one value head; if value heads share a key
/// head, the caller sums them. One threadgroup computes one chunk of one value head, and each of its simdgroups sixteen tokens.
#[stage(
    dims = [TILES = C / 16, PACKED = TILES * (TILES + 1) / 2 * 256],
    grid = (2 * L, Hv, B),
    threads = (2 * C, 1, 1),
    headers = [CHUNK, PAIRS, FLOATS, STATES, LOWER_TILES, DECAY],
    cases = [
        (B = 1, L = 16, Hk = 1, Hv = 1, Dk = 16, Dv = 16, C = 16),
        (B = 2, L = 64, Hk = 1, Hv = 3, Dk = 32, Dv = 16, C = 32),
        (B = 1, L = 64, Hk = 2, Hv = 2, Dk = 48, Dv = 32, C = 64),
    ],
)]
pub(crate) fn chunk_gradients<F: Float, G: Float, Gradient: Float, const C: usize, const Dk: usize, const Dv: usize>(
    queries: In![F; B, L, Hk, Dk],
    keys: In![F; B, L, Hk, Dk],
    #[values(0.0..1.0)] beta: In![G; B, L, Hv],
    #[values(-2.0..0.0)] gates: In![f32; B, Hv, L, 2],
    errors: In![f32; B, Hv, L, Dv],
    chunk_states: In![f32; B, Hv, L / C, Dv, Dk],
    y_cotangent: In![F; B, L, Hv, Dv],
    solved_cotangent: In![f32; B, Hv, L, Dv],
    query_scores_cotangent: In![f32; B, Hv, L / C, PACKED],
    key_scores_cotangent: In![f32; B, Hv, L / C, PACKED],
    exit_cotangents: In![f32; B, Hv, L / C, Dv, Dk],
    log_decay_gradient_of_scores: In![f32; B, L, Hv],
    query_gradient: Out![Gradient; B, L, Hv, Dk],
    key_gradient: Out![Gradient; B, L, Hv, Dk],
    log_decay_gradient: Out![f32; B, L, Hv],
) {
    metal! {
        const Chunk chunk = find_chunk<C>(threadgroup_position_in_grid, L, Hv);
        const int thread_index = thread_index_in_threadgroup;
        const int lane = thread_index_in_simdgroup;
        const int own = simdgroup_index_in_threadgroup;
        const int key_stride = Hk * Dk;
        const int value_stride = Hv * Dv;
        const device F* query = queries + chunk.token * key_stride + chunk.head / (Hv / Hk) * Dk;
        const device F* key = keys + chunk.token * key_stride + chunk.head / (Hv / Hk) * Dk;
        const device F* d_output = y_cotangent + (chunk.token + own * 16) * value_stride + chunk.head * Dv;
        const device float* error = errors + (chunk.cell + own * 16) * Dv;
        const device float* state = chunk_states + chunk.place * Dv * Dk;
        const device float* d_exit = exit_cotangents + chunk.place * Dv * Dk;

        const device float* solved = solved_cotangent + (chunk.cell + own * 16) * Dv;
        const device float* by_query_scores = query_scores_cotangent + chunk.place * PACKED;
        const device float* by_key_scores = key_scores_cotangent + chunk.place * PACKED;

        threadgroup float strength[C];
        threadgroup Gates since[C];
        threadgroup float starts[C * 16];
        threadgroup float ends[C * 16];
        threadgroup float from_start[C];
        threadgroup float until_end[C];
        threadgroup float by_states[TILES];

        if (thread_index < C) {
            since[thread_index] = gates_at(gates, chunk.cell + thread_index);
            strength[thread_index] = float(beta[(chunk.token + thread_index) * Hv + chunk.head]);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const Gates end = since[C - 1];

        float product = 0.0f;
        tile<float, 16, 16> d_start(0.0f);
        tile<float, 16, 16> d_end(0.0f);
        // Two tiles of channels are computed at once.
        for (int pair = 0; pair < Dk; pair += 32) {
            // Both tiles of a row of tiles lie side by side.
            const int width = min(32, Dk - pair) * 16;
            for (int i = thread_index; i < Dv / 16 * width; i += 2 * C) {
                const int at = i / width * 16 * Dk + pair * 16 + i % width;
                product += state[at] * d_exit[at];
            }
            tile<float, 16, 16> d_query[2];
            tile<float, 16, 16> d_reading[2];
            tile<float, 16, 16> d_key[2];
            multiply_states(
                d_query, d_reading, d_key, d_output, value_stride, solved, error, state, d_exit, pair, Dk, Dv);
            #pragma unroll
            for (int side = 0; side < 2; ++side) {
                const int k = pair + side * 16;
                if (k < Dk) {
                    tile_for_each(d_query[side], row, column, value) { value *= decay_since(since[own * 16 + row]); }
                    tile_for_each(d_reading[side], row, column, value) { value *= -decay_since(since[own * 16 + row]); }
                    tile_for_each(d_key[side], row, column, value) {
                        value *= strength[own * 16 + row] * decay_between(since[own * 16 + row], end);
                    }
                    tile<float, 16, 16> own_query;
                    tile<float, 16, 16> own_key;
                    tile_load(own_query, in_pairs(query + own * 16 * key_stride + k), key_stride / 2);
                    tile_load(own_key, in_pairs(key + own * 16 * key_stride + k), key_stride / 2);
                    tile_multiply_accumulate_elements(d_start, d_query[side], own_query);
                    tile_multiply_accumulate_elements(d_start, d_reading[side], own_key);
                    tile_multiply_accumulate_elements(d_end, d_key[side], own_key);
                    tile_multiply_accumulate_elements(d_key[side], d_reading[side], tile<float, 16, 16>(1.0f));
                }
            }
            for (int j = 0; j < TILES; ++j) {
                tile<float, 16, 16> left;
                right_tile<F, 16, 16> right[2];
                #pragma unroll
                for (int side = 0; side < 2; ++side) {
                    const int k = pair + side * 16;
                    if (k < Dk) { tile_load_right(right[side], key + j * 16 * key_stride + k, key_stride); }
                }
                if (j <= own) {
                    tile_load(left, in_pairs(by_query_scores + lower_tile(own, j)), 8);
                    #pragma unroll
                    for (int side = 0; side < 2; ++side) {
                        if (pair + side * 16 < Dk) { tile_multiply_accumulate(d_query[side], left, right[side]); }
                    }
                    tile_load(left, in_pairs(by_key_scores + lower_tile(own, j)), 8);
                    #pragma unroll
                    for (int side = 0; side < 2; ++side) {
                        if (pair + side * 16 < Dk) { tile_multiply_accumulate(d_key[side], left, right[side]); }
                    }
                }
                if (j >= own) {
                    tile_load_transposed(left, by_key_scores + lower_tile(j, own), 16);
                    #pragma unroll
                    for (int side = 0; side < 2; ++side) {
                        if (pair + side * 16 < Dk) { tile_multiply_accumulate(d_key[side], left, right[side]); }
                    }
                    tile_load_transposed(left, by_query_scores + lower_tile(j, own), 16);
                    #pragma unroll
                    for (int side = 0; side < 2; ++side) {
                        const int k = pair + side * 16;
                        if (k < Dk) {
                            tile_load_right(right[side], query + j * 16 * key_stride + k, key_stride);
                            tile_multiply_accumulate(d_key[side], left, right[side]);
                        }
                    }
                }
            }
            #pragma unroll
            for (int side = 0; side < 2; ++side) {
                const int k = pair + side * 16;
                if (k < Dk) {
                    const ulong at = ((chunk.token + own * 16) * Hv + chunk.head) * Dk + k;
                    tile_store(d_query[side], in_pairs(query_gradient + at), Hv * Dk / 2);
                    tile_store(d_key[side], in_pairs(key_gradient + at), Hv * Dk / 2);
                }
            }
        }
        product = simd_sum(product);
        if (lane == 0) { by_states[own] = product; }
        tile_store(d_start, starts + own * 256, 16);
        tile_store(d_end, ends + own * 256, 16);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (thread_index < C) {
            float start = 0.0f;
            float until = 0.0f;
            for (int k = 0; k < 16; ++k) {
                start += starts[thread_index * 16 + k];
                until += ends[thread_index * 16 + k];
            }
            from_start[thread_index] = start;
            until_end[thread_index] = until;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (thread_index < C) {
            float d_gate = 0.0f;
            for (int i = 0; i < TILES; ++i) { d_gate += by_states[i]; }
            d_gate *= decay_since(end);
            for (int i = thread_index; i < C; ++i) { d_gate += from_start[i]; }
            for (int j = 0; j < thread_index; ++j) { d_gate += until_end[j]; }
            const ulong at = (chunk.token + thread_index) * Hv + chunk.head;
            log_decay_gradient[at] = log_decay_gradient_of_scores[at] + d_gate;
        }
    }
}
