//! What the tokens of a block owe to the other blocks and to the states.

use cotangent::stage;

use crate::delta_rule::stages::{FLOATS, LOWER_TILES, PAIRS};

/// The cotangents of decayed queries and keys, at the edges of their blocks. One threadgroup computes one chunk of one value
/// head; each of its simdgroups sixteen tokens.
///
/// - `query_cotangents`, `reader_cotangents`: of `s Q` and of `s K`, without what comes from their own block, tile by tile;
/// - `writer_cotangents`: of `e K`, likewise;
/// - `passing`: what each block gives to the gates of all its tokens, since it passes from before it to behind it.
#[stage(
    grid = (2 * L, Hv, B),
    threads = (2 * C, 1, 1),
    headers = [PAIRS, FLOATS, LOWER_TILES],
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
    query_scores_cotangent: In![f32; B, Hv, L / C, (C / 16) * (C / 16 + 1) / 2 * 256],
    key_scores_cotangent: In![f32; B, Hv, L / C, (C / 16) * (C / 16 + 1) / 2 * 256],
    exit_cotangents: In![f32; B, Hv, L / C, Dv, Dk],
    query_cotangents: Out![f32; B, Hv, L, Dk],
    reader_cotangents: Out![f32; B, Hv, L, Dk],
    writer_cotangents: Out![f32; B, Hv, L, Dk],
    passing: Out![f32; B, Hv, L / 16, Dk],
) {
    metal! {
        constexpr int TILES = C / 16;
        constexpr int PACKED = TILES * (TILES + 1) / 2 * 256;
        const int chunk = threadgroup_position_in_grid.x;
        const int head = threadgroup_position_in_grid.y;
        const int batch = threadgroup_position_in_grid.z;
        const int thread_index = thread_index_in_threadgroup;
        const int lane = thread_index_in_simdgroup;
        const int own = simdgroup_index_in_threadgroup;
        const ulong heads = ulong(batch) * Hv + head;
        const ulong token = ulong(batch) * L + chunk * C;
        const ulong cell = heads * L + chunk * C;
        const ulong place = heads * (L / C) + chunk;
        const ulong block = heads * (L / 16) + chunk * TILES;
        const device F* d_output = y_cotangent + ((token + own * 16) * Hv + head) * Dv;
        const device float* error = errors + (cell + own * 16) * Dv;
        const device float* solved = solved_cotangent + (cell + own * 16) * Dv;
        const device float* state = chunk_states + place * Dv * Dk;
        const device float* d_exit = exit_cotangents + place * Dv * Dk;
        const device float* by_query_scores = query_scores_cotangent + place * PACKED;
        const device float* by_key_scores = key_scores_cotangent + place * PACKED;

        threadgroup float strength[C];
        // The decays over the blocks, sixteen channels of them.
        threadgroup float over_block[TILES * 16];
        // What passes blocks: to each block from beyond each one before it, from each block to the next state, and from the
        // state to the next.
        threadgroup float read[TILES * TILES * 16];
        threadgroup float written[TILES * 16];
        threadgroup float through[2 * C];
        threadgroup float products[TILES * 256];

        if (thread_index < C) { strength[thread_index] = float(beta[(token + thread_index) * Hv + head]); }

        for (int k = 0; k < Dk; k += 16) {
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (thread_index < C) {
                over_block[thread_index] = block_decays[(block + thread_index / 16) * Dk + k + thread_index % 16];
            }
            float product = 0.0f;
            for (int i = thread_index; i < Dv * 16; i += 2 * C) {
                const int at = i / 256 * 16 * Dk + k * 16 + i % 256;
                product += state[at] * d_exit[at];
            }
            through[thread_index] = product;
            threadgroup_barrier(mem_flags::mem_threadgroup);

            tile<float, 16, 16> d_query(0.0f);
            tile<float, 16, 16> d_reader(0.0f);
            tile<float, 16, 16> d_writer(0.0f);
            for (int d = 0; d < Dv; d += 16) {
                tile<F, 16, 16> d_own;
                tile<float, 16, 16> z;
                tile<float, 16, 16> own_error;
                right_tile<float, 16, 16> entry;
                right_tile<float, 16, 16> exit;
                tile_load(d_own, in_pairs(d_output + d), Hv * Dv / 2);
                tile_load(z, in_pairs(solved + d * 16), 8);
                tile_load(own_error, in_pairs(error + d * 16), 8);
                tile_load_right(entry, state + d * Dk + k * 16, 16);
                tile_load_right(exit, d_exit + d * Dk + k * 16, 16);
                tile_multiply_accumulate(d_query, d_own, entry);
                multiply_floats<F>(d_reader, z, entry);
                multiply_floats<F>(d_writer, own_error, exit);
            }
            tile_for_each(d_reader, row, column, value) { value = -value; }
            tile_for_each(d_writer, row, column, value) { value *= strength[own * 16 + row]; }

            const ulong at = (cell + own * 16) * Dk + k * 16;
            tile<float, 16, 16> query;
            tile<float, 16, 16> reader;
            tile<float, 16, 16> writer;
            tile_load(query, in_pairs(block_queries + at), 8);
            tile_load(reader, in_pairs(block_readers + at), 8);
            tile_load(writer, in_pairs(block_writers + at), 8);
            tile<float, 16, 16> product_of_writers(0.0f);
            tile_multiply_accumulate_elements(product_of_writers, d_writer, writer);
            tile_store(product_of_writers, products + own * 256, 16);
            simdgroup_barrier(mem_flags::mem_threadgroup);
            if (lane < 16) {
                float sum = 0.0f;
                for (int row = 0; row < 16; ++row) { sum += products[own * 256 + row * 16 + lane]; }
                for (int i = own + 1; i < TILES; ++i) { sum *= over_block[i * 16 + lane]; }
                written[own * 16 + lane] = sum;
            }
            simdgroup_barrier(mem_flags::mem_threadgroup);

            // From the state over the blocks before the own one, each adding what its tokens wrote.
            for (int j = 0; j < own; ++j) {
                tile_for_each(d_query, row, column, value) { value *= over_block[j * 16 + column]; }
                tile_for_each(d_reader, row, column, value) { value *= over_block[j * 16 + column]; }
                tile<float, 16, 16> passed(0.0f);
                tile_multiply_accumulate_elements(passed, d_query, query);
                tile_multiply_accumulate_elements(passed, d_reader, reader);
                tile_store(passed, products + own * 256, 16);
                simdgroup_barrier(mem_flags::mem_threadgroup);
                if (lane < 16) {
                    float sum = 0.0f;
                    for (int row = 0; row < 16; ++row) { sum += products[own * 256 + row * 16 + lane]; }
                    for (int between = j + 1; between < own; ++between) { sum *= over_block[between * 16 + lane]; }
                    read[(own * TILES + j) * 16 + lane] = sum;
                }
                simdgroup_barrier(mem_flags::mem_threadgroup);

                tile<float, 16, 16> left;
                right_tile<F, 16, 16> right;
                tile_load_right(right, block_writers + (cell + j * 16) * Dk + k * 16, 16);
                tile_load(left, in_pairs(by_query_scores + lower_tile(own, j)), 8);
                tile_multiply_accumulate(d_query, left, right);
                tile_load(left, in_pairs(by_key_scores + lower_tile(own, j)), 8);
                tile_multiply_accumulate(d_reader, left, right);
            }
            // From the next state over the blocks behind the own one, each adding what its tokens read.
            for (int i = TILES - 1; i > own; --i) {
                tile_for_each(d_writer, row, column, value) { value *= over_block[i * 16 + column]; }
                tile<float, 16, 16> left;
                right_tile<F, 16, 16> right;
                tile_load_right(right, block_queries + (cell + i * 16) * Dk + k * 16, 16);
                tile_load_transposed(left, by_query_scores + lower_tile(i, own), 16);
                tile_multiply_accumulate(d_writer, left, right);
                tile_load_right(right, block_readers + (cell + i * 16) * Dk + k * 16, 16);
                tile_load_transposed(left, by_key_scores + lower_tile(i, own), 16);
                tile_multiply_accumulate(d_writer, left, right);
            }
            tile_store(d_query, in_pairs(query_cotangents + at), 8);
            tile_store(d_reader, in_pairs(reader_cotangents + at), 8);
            tile_store(d_writer, in_pairs(writer_cotangents + at), 8);

            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (thread_index < C) {
                const int passed = thread_index / 16;
                const int column = thread_index % 16;
                float sum = 0.0f;
                for (int i = column; i < 2 * C; i += 16) { sum += through[i]; }
                for (int i = 0; i < TILES; ++i) { sum *= over_block[i * 16 + column]; }
                for (int j = 0; j < passed; ++j) { sum += written[j * 16 + column]; }
                for (int i = passed + 1; i < TILES; ++i) { sum += read[(i * TILES + passed) * 16 + column]; }
                passing[(block + passed) * Dk + k + column] = sum;
            }
        }
    }
}
