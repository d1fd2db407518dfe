//! The scores of the queries and keys of a chunk with the keys before them.

use cotangent::stage;

use crate::delta_rule::stages::{CHUNK, LOWER_TILES, PAIRS};

/// One threadgroup computes one chunk of one value head; each of its simdgroups sixteen tokens.
///
/// - `query_scores`, `key_scores`: the tiles of `P` and of `X` on and below the diagonal.
#[stage(
    dims = [TILES = C / 16, PACKED = TILES * (TILES + 1) / 2 * 256],
    grid = (2 * L, Hv, B),
    threads = (2 * C, 1, 1),
    headers = [CHUNK, PAIRS, LOWER_TILES],
    cases = [
        (B = 1, L = 16, Hk = 1, Hv = 1, Dk = 16, C = 16),
        (B = 2, L = 64, Hk = 1, Hv = 3, Dk = 32, C = 32),
        (B = 1, L = 64, Hk = 2, Hv = 2, Dk = 48, C = 64),
    ],
)]
pub(crate) fn channel_scores<F: Float, const C: usize, const Dk: usize>(
    queries: In![F; B, L, Hk, Dk],
    keys: In![F; B, L, Hk, Dk],
    #[values(-2.0..0.0)] log_decay: In![f32; B, L, Hv, Dk],
    block_queries: In![F; B, Hv, L, Dk],
    block_readers: In![F; B, Hv, L, Dk],
    block_writers: In![F; B, Hv, L, Dk],
    #[values(0.0..1.0)] block_decays: In![f32; B, Hv, L / 16, Dk],
    query_scores: Out![f32; B, Hv, L / C, PACKED],
    key_scores: Out![f32; B, Hv, L / C, PACKED],
) {
    metal! {
        const Chunk chunk = find_chunk<C>(threadgroup_position_in_grid, L, Hv);
        const int lane = thread_index_in_simdgroup;
        const int own = simdgroup_index_in_threadgroup;
        const ulong token = chunk.token + own * 16;
        const device float* over_block = block_decays + chunk.place * TILES * Dk;
        device float* of_queries = query_scores + chunk.place * PACKED;
        device float* of_keys = key_scores + chunk.place * PACKED;

        // Sixteen channels of the decays, queries and keys of each simdgroup's block.
        threadgroup float decays[TILES * 256];
        threadgroup float block_of_queries[TILES * 256];
        threadgroup float block_of_keys[TILES * 256];
        threadgroup float* own_decays = decays + own * 256;
        threadgroup float* own_queries = block_of_queries + own * 256;
        threadgroup float* own_keys = block_of_keys + own * 256;

        tile<float, 16, 16> by_queries[TILES];
        tile<float, 16, 16> by_keys[TILES];
        #pragma unroll
        for (int j = 0; j < TILES; ++j) {
            by_queries[j] = tile<float, 16, 16>(0.0f);
            by_keys[j] = tile<float, 16, 16>(0.0f);
        }
        // Within the block a lane has one earlier token and half of the channels.
        const int earlier = lane % 16;
        const int half_of_channels = lane / 16 * 8;
        float own_by_queries[16] = {};
        float own_by_keys[16] = {};

        for (int k = 0; k < Dk; k += 16) {
            tile<float, 16, 16> query;
            tile<float, 16, 16> reader;
            tile_load(query, in_pairs(block_queries + (chunk.cell + own * 16) * Dk + k * 16), 8);
            tile_load(reader, in_pairs(block_readers + (chunk.cell + own * 16) * Dk + k * 16), 8);
            #pragma unroll
            for (int j = TILES - 1; j >= 0; --j) {
                if (j < own) {
                    right_tile<F, 16, 16> writer;
                    tile_load_right_transposed(writer, in_pairs(block_writers + (chunk.cell + j * 16) * Dk + k * 16), 8);
                    tile_multiply_accumulate(by_queries[j], tile_cast<F>(query), writer);
                    tile_multiply_accumulate(by_keys[j], tile_cast<F>(reader), writer);
                    // The blocks before this one are seen through its decay as well.
                    tile_for_each(query, row, column, value) { value *= over_block[j * Dk + k + column]; }
                    tile_for_each(reader, row, column, value) { value *= over_block[j * Dk + k + column]; }
                }
            }

            simdgroup_barrier(mem_flags::mem_threadgroup);
            #pragma unroll
            for (int part = 0; part < 8; ++part) {
                const int row = part * 2 + lane / 16;
                const int column = lane % 16;
                const ulong there = ((token + row) * Hk + chunk.head / (Hv / Hk)) * Dk + k + column;
                own_decays[row * 16 + column] = exp(log_decay[((token + row) * Hv + chunk.head) * Dk + k + column]);
                own_queries[row * 16 + column] = float(queries[there]);
                own_keys[row * 16 + column] = float(keys[there]);
            }
            simdgroup_barrier(mem_flags::mem_threadgroup);
            for (int column = half_of_channels; column < half_of_channels + 8; ++column) {
                float written = own_keys[earlier * 16 + column];
                #pragma unroll
                for (int row = 0; row < 16; ++row) {
                    const float decayed = written * own_decays[row * 16 + column];
                    written = row > earlier ? decayed : written;
                    own_by_queries[row] += written * own_queries[row * 16 + column];
                    own_by_keys[row] += written * own_keys[row * 16 + column];
                }
            }
        }

        #pragma unroll
        for (int j = 0; j < TILES; ++j) {
            if (j < own) {
                tile_store(by_queries[j], in_pairs(of_queries + lower_tile(own, j)), 8);
                tile_store(by_keys[j], in_pairs(of_keys + lower_tile(own, j)), 8);
            }
        }
        #pragma unroll
        for (int row = 0; row < 16; ++row) {
            const float query_score = own_by_queries[row] + simd_shuffle_xor(own_by_queries[row], ushort(16));
            const float key_score = own_by_keys[row] + simd_shuffle_xor(own_by_keys[row], ushort(16));
            const int at = lower_tile(own, own) + row * 16 + earlier;
            if (lane < 16) {
                of_queries[at] = row >= earlier ? query_score : 0.0f;
            } else {
                of_keys[at] = row > earlier ? key_score : 0.0f;
            }
        }
    }
}
