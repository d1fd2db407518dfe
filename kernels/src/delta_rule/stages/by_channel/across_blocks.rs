//! The part of the gradients of a block's tokens that comes from the other blocks and from the states.

use cotangent::stage;

use crate::delta_rule::stages::{CHUNK, FLOATS, LOWER_TILES, PAIRS, STATES};

/// The cotangents of decayed queries and keys, at the edges of their blocks. One threadgroup computes one chunk of one value
/// head; each of its simdgroups sixteen tokens.
///
/// - `query_cotangents`, `reader_cotangents`: of `s Q` and of `s K`, without what comes from their own block, tile by tile;
/// - `writer_cotangents`: of `e K`, likewise;
/// - `passing`: what each block gives to the gates of all its tokens, since it passes from before it to behind it.
#[stage(
    dims = [TILES = C / 16, PACKED = TILES * (TILES + 1) / 2 * 256],
    grid = (2 * L, Hv, B),
    threads = (2 * C, 1, 1),
    headers = [CHUNK, PAIRS, FLOATS, STATES, LOWER_TILES],
    cases = [
        (B = 1, L = 16, Hv = 1, Dk = 16, Dv = 16, C = 16),
        (B = 2, L = 64, Hv = 3, Dk = 32, Dv = 16, C = 32),
        (B = 1, L = 64, Hv = 2, Dk = 48, Dv = 32, C = 64),
    ],
)]
pub(crate) fn cotangents_across_blocks<F: Float, G: Float, const C: usize, const Dk: usize, const Dv: usize>(
    block_queries: In![F; B, Hv, L, Dk],
    block_readers: In![F; B, Hv, L, Dk],
    block_writers: In![F; B, Hv, L, Dk],
    #[values(0.0..1.0)] block_decays: In![f32; B, Hv, L / 16, Dk],
    #[values(0.0..1.0)] beta: In![G; B, L, Hv],
    errors: In![f32; B, Hv, L, Dv],
    chunk_states: In![f32; B, Hv, L / C, Dv, Dk],
    y_cotangent: In![F; B, L, Hv, Dv],
    solved_cotangent: In![f32; B, Hv, L, Dv],
    query_scores_cotangent: In![f32; B, Hv, L / C, PACKED],
    key_scores_cotangent: In![f32; B, Hv, L / C, PACKED],
    exit_cotangents: In![f32; B, Hv, L / C, Dv, Dk],
    query_cotangents: Out![f32; B, Hv, L, Dk],
    reader_cotangents: Out![f32; B, Hv, L, Dk],
    writer_cotangents: Out![f32; B, Hv, L, Dk],
    passing: Out![f32; B, Hv, L / 16, Dk],
) {
    metal! {
        const Chunk chunk = find_chunk<C>(threadgroup_position_in_grid, L, Hv);
        const int thread_index = thread_index_in_threadgroup;
        const int lane = thread_index_in_simdgroup;
        const int own = simdgroup_index_in_threadgroup;
        const ulong block = chunk.place * TILES;
        const device F* d_output = y_cotangent + ((chunk.token + own * 16) * Hv + chunk.head) * Dv;
        const device float* error = errors + (chunk.cell + own * 16) * Dv;
        const device float* solved = solved_cotangent + (chunk.cell + own * 16) * Dv;
        const device float* state = chunk_states + chunk.place * Dv * Dk;
        const device float* d_exit = exit_cotangents + chunk.place * Dv * Dk;
        const device float* by_query_scores = query_scores_cotangent + chunk.place * PACKED;
        const device float* by_key_scores = key_scores_cotangent + chunk.place * PACKED;

        threadgroup float strength[C];
        // The decays over whole blocks, for thirty-two channels.
        threadgroup float over_block[TILES * 32];
        // Decay gradients of whole blocks: on the way to each block from each one before it, from each block to the
        // next state, and from state to state.
        threadgroup float read[TILES * TILES * 32];
        threadgroup float written[TILES * 32];
        threadgroup float through[TILES * 32];
        threadgroup float products[TILES * 512];
        threadgroup float* own_products = products + own * 512;

        if (thread_index < C) { strength[thread_index] = float(beta[(chunk.token + thread_index) * Hv + chunk.head]); }

        // Two tiles of channels are computed at once.
        for (int pair = 0; pair < Dk; pair += 32) {
            const int channel = pair + thread_index % 32;
            threadgroup_barrier(mem_flags::mem_threadgroup);
            float product = 0.0f;
            if (channel < Dk) {
                over_block[thread_index] = block_decays[(block + thread_index / 32) * Dk + channel];
                for (int row = thread_index / 32; row < Dv; row += TILES) {
                    const int at = row / 16 * 16 * Dk + channel / 16 * 256 + row % 16 * 16 + channel % 16;
                    product += state[at] * d_exit[at];
                }
            }
            through[thread_index] = product;
            threadgroup_barrier(mem_flags::mem_threadgroup);

            tile<float, 16, 16> d_query[2];
            tile<float, 16, 16> d_reader[2];
            tile<float, 16, 16> d_writer[2];
            multiply_states(d_query, d_reader, d_writer, d_output, Hv * Dv, solved, error, state, d_exit, pair, Dk, Dv);

            tile<float, 16, 16> query[2];
            tile<float, 16, 16> reader[2];
            #pragma unroll
            for (int side = 0; side < 2; ++side) {
                const int k = pair + side * 16;
                if (k < Dk) {
                    tile_for_each(d_reader[side], row, column, value) { value = -value; }
                    tile_for_each(d_writer[side], row, column, value) { value *= strength[own * 16 + row]; }
                    tile<float, 16, 16> writer;
                    tile<float, 16, 16> passed(0.0f);
                    tile_load(query[side], in_pairs(block_queries + (chunk.cell + own * 16) * Dk + k * 16), 8);
                    tile_load(reader[side], in_pairs(block_readers + (chunk.cell + own * 16) * Dk + k * 16), 8);
                    tile_load(writer, in_pairs(block_writers + (chunk.cell + own * 16) * Dk + k * 16), 8);
                    tile_multiply_accumulate_elements(passed, d_writer[side], writer);
                    tile_store(passed, own_products + side * 256, 16);
                }
            }
            simdgroup_barrier(mem_flags::mem_threadgroup);
            if (pair + lane < Dk) {
                float sum = 0.0f;
                for (int row = 0; row < 16; ++row) { sum += own_products[lane / 16 * 256 + row * 16 + lane % 16]; }
                for (int i = own + 1; i < TILES; ++i) { sum *= over_block[i * 32 + lane]; }
                written[own * 32 + lane] = sum;
            }
            simdgroup_barrier(mem_flags::mem_threadgroup);

            // The loop goes from the state over the blocks before the own one; each block adds what its tokens wrote.
            for (int j = 0; j < own; ++j) {
                #pragma unroll
                for (int side = 0; side < 2; ++side) {
                    if (pair + side * 16 < Dk) {
                        const threadgroup float* over = over_block + j * 32 + side * 16;
                        tile_for_each(d_query[side], row, column, value) { value *= over[column]; }
                        tile_for_each(d_reader[side], row, column, value) { value *= over[column]; }
                        tile<float, 16, 16> passed(0.0f);
                        tile_multiply_accumulate_elements(passed, d_query[side], query[side]);
                        tile_multiply_accumulate_elements(passed, d_reader[side], reader[side]);
                        tile_store(passed, own_products + side * 256, 16);
                    }
                }
                simdgroup_barrier(mem_flags::mem_threadgroup);
                if (pair + lane < Dk) {
                    float sum = 0.0f;
                    for (int row = 0; row < 16; ++row) { sum += own_products[lane / 16 * 256 + row * 16 + lane % 16]; }
                    for (int between = j + 1; between < own; ++between) { sum *= over_block[between * 32 + lane]; }
                    read[(own * TILES + j) * 32 + lane] = sum;
                }
                simdgroup_barrier(mem_flags::mem_threadgroup);

                tile<float, 16, 16> of_query;
                tile<float, 16, 16> of_key;
                tile_load(of_query, in_pairs(by_query_scores + lower_tile(own, j)), 8);
                tile_load(of_key, in_pairs(by_key_scores + lower_tile(own, j)), 8);
                #pragma unroll
                for (int side = 0; side < 2; ++side) {
                    const int k = pair + side * 16;
                    if (k < Dk) {
                        right_tile<F, 16, 16> right;
                        tile_load_right(right, block_writers + (chunk.cell + j * 16) * Dk + k * 16, 16);
                        tile_multiply_accumulate(d_query[side], of_query, right);
                        tile_multiply_accumulate(d_reader[side], of_key, right);
                    }
                }
            }
            // The loop goes from the next state over the blocks behind the own one; each block adds what its tokens
            // read.
            for (int i = TILES - 1; i > own; --i) {
                tile<float, 16, 16> of_query;
                tile<float, 16, 16> of_key;
                tile_load_transposed(of_query, by_query_scores + lower_tile(i, own), 16);
                tile_load_transposed(of_key, by_key_scores + lower_tile(i, own), 16);
                #pragma unroll
                for (int side = 0; side < 2; ++side) {
                    const int k = pair + side * 16;
                    if (k < Dk) {
                        const threadgroup float* over = over_block + i * 32 + side * 16;
                        tile_for_each(d_writer[side], row, column, value) { value *= over[column]; }
                        right_tile<F, 16, 16> right;
                        tile_load_right(right, block_queries + (chunk.cell + i * 16) * Dk + k * 16, 16);
                        tile_multiply_accumulate(d_writer[side], of_query, right);
                        tile_load_right(right, block_readers + (chunk.cell + i * 16) * Dk + k * 16, 16);
                        tile_multiply_accumulate(d_writer[side], of_key, right);
                    }
                }
            }
            #pragma unroll
            for (int side = 0; side < 2; ++side) {
                const int k = pair + side * 16;
                if (k < Dk) {
                    const ulong at = (chunk.cell + own * 16) * Dk + k * 16;
                    tile_store(d_query[side], in_pairs(query_cotangents + at), 8);
                    tile_store(d_reader[side], in_pairs(reader_cotangents + at), 8);
                    tile_store(d_writer[side], in_pairs(writer_cotangents + at), 8);
                }
            }

            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (channel < Dk) {
                const int passed = thread_index / 32;
                float sum = 0.0f;
                for (int i = 0; i < TILES; ++i) { sum += through[i * 32 + lane]; }
                for (int i = 0; i < TILES; ++i) { sum *= over_block[i * 32 + lane]; }
                for (int j = 0; j < passed; ++j) { sum += written[j * 32 + lane]; }
                for (int i = passed + 1; i < TILES; ++i) { sum += read[(i * TILES + passed) * 32 + lane]; }
                passing[(block + passed) * Dk + channel] = sum;
            }
        }
    }
}
