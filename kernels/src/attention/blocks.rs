//! Attention in blocks of queries and keys: one launch, no scores in device memory.
//!
//! A threadgroup owns 64 queries of a head and passes over the keys they see, block after block, with a running
//! maximum and sum of each row, so that the softmax needs no second pass (Milakov and Gimelshein, "Online normalizer
//! calculation for softmax", 2018; Dao et al., "FlashAttention", 2022). What it keeps for the backward pass is one number
//! a row, the logarithm of the softmax's denominator.

use cotangent::differentiable;

use super::blocks_backward::attend_in_blocks_backward;
use super::by_strips;
use super::products::PRODUCTS;

/// [`causal_attention`](super::causal_attention) for heads whose widths are multiples of 16.
///
/// A query sees the keys from `first_keys` up to its own. A query whose first key lies behind it sees none, and its
/// output is 0. `BLOCK`, 16 or 32, is the number of keys (and, backward, of queries) of a pass; the memory of a
/// threadgroup grows with it.
#[differentiable(
    backward = attend_in_blocks_backward,
    fallback = by_strips,
    expensive,
    requires = [G >= 1, H % G == 0, T <= S, D % 16 == 0, E % 16 == 0, D <= 256, E <= 256, BLOCK % 16 == 0, BLOCK <= 32],
    headers = [PRODUCTS],
    dims = [ROWS = 64],
    grid = (128 * B * H, ceil_div(T, ROWS), 1),
    threads = (128, 1, 1),
    cases = [
        (B = 1, H = 2, T = 1, G = 1, S = 3, D = 16, E = 16, BLOCK = 16),
        (B = 2, H = 4, T = 19, G = 2, S = 37, D = 32, E = 16, BLOCK = 16),
        (B = 1, H = 1, T = 70, G = 1, S = 70, D = 16, E = 48, BLOCK = 32),
        (B = 1, H = 2, T = 5, G = 1, S = 7, D = 12, E = 5, BLOCK = 16),
    ],
)]
pub fn attend_in_blocks<F: Float, const D: usize, const E: usize, const BLOCK: usize>(
    queries: In![F; B, H, T, D],
    keys: In![F; B, G, S, D],
    values: In![F; B, G, S, E],
    #[values(0..S)] first_keys: In![i32; B, T],
    scale: f32,
    output: Out![F; B, H, T, E],
    #[saved] log_sums: Out![f32; B, H, T],
) {
    metal! {
        constexpr int STRIDE = (D > E ? D : E) + 16 / sizeof(F);
        threadgroup F block[2 * BLOCK * STRIDE];
        uint thread_index = thread_index_in_threadgroup;
        uint simdgroup = simdgroup_index_in_threadgroup;
        uint lane = thread_index_in_simdgroup;
        int batch = int(threadgroup_position_in_grid.x) / H;
        int head = int(threadgroup_position_in_grid.x) % H;
        // The blocks that see the most keys begin first, so that the last ones to end are short.
        int start = ((T + ROWS - 1) / ROWS - 1 - int(threadgroup_position_in_grid.y)) * ROWS;
        int offset = S - T;
        ulong rows_before = ulong(batch * H + head) * T;
        ulong keys_before = ulong(batch * G + head / (H / G)) * S;

        // No query of the block sees a key outside lowest .. end. Every query of the simdgroup sees the keys highest
        // ..= own.
        int first = start + int(lane) < T ? first_keys[batch * T + start + lane] : S;
        int other = start + 32 + int(lane) < T ? first_keys[batch * T + start + 32 + lane] : S;
        int lowest = simd_min(min(first, other));
        int own = start + 16 * int(simdgroup);
        int end = min(start + ROWS, T) + offset;
        tile_rows<int> from;
        for (int i = 0; i < 2; ++i) {
            int row = own + int(from.row(i));
            from.at[i] = row < T ? first_keys[batch * T + row] : S;
        }
        int highest = simd_max(max(from.at[0], from.at[1]));
        int nearest = simd_min(min(from.at[0], from.at[1]));

        tile<F, 16, 16> query[D / 16];
        for (int part = 0; part < ROWS / 16; ++part) {
            threadgroup_barrier(mem_flags::mem_threadgroup);
            int row = start + 16 * part;
            if (row < T) {
                tile_copy_rows(block, STRIDE, queries + (rows_before + row) * D, D, 16, D, min(T - row, 16), thread_index, 128);
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (row < T && part == int(simdgroup)) {
                #pragma unroll
                for (int c = 0; c < D / 16; ++c) tile_load(query[c], block + 16 * c, STRIDE);
            }
        }

        tile<float, 16, 16> sum[E / 16];
        #pragma unroll
        for (int c = 0; c < E / 16; ++c) sum[c] = tile<float, 16, 16>(0.0f);
        tile_rows<float> largest(-INFINITY);
        tile_rows<float> total(0.0f);
        // Exponentials are powers of two.
        float factor = scale * M_LOG2E_F;

        int begin = lowest / BLOCK * BLOCK;
        bool counts = own < T;
        if (begin < end) {
            // All threads have read the queries in `block` before keys overwrite them.
            threadgroup_barrier(mem_flags::mem_threadgroup);
            tile_copy_rows(block, STRIDE, keys + (keys_before + begin) * D, D, BLOCK, D, min(S - begin, int(BLOCK)), thread_index, 128);
        }
        for (int key = begin; key < end; key += BLOCK) {
            // The values are loaded while scores are computed, and the next keys while values are added up.
            threadgroup_barrier(mem_flags::mem_threadgroup);
            tile_copy_rows(
                block + BLOCK * STRIDE, STRIDE, values + (keys_before + key) * E, E, BLOCK, E, min(S - key, int(BLOCK)), thread_index,
                128);
            tile<float, 16, 16> scores[BLOCK / 16];
            tile_rows<float> shift;
            bool sees = counts && key <= own + 15 + offset && key + BLOCK > nearest;
            if (sees) {
                #pragma unroll
                for (int b = 0; b < BLOCK / 16; ++b) {
                    scores[b] = tile<float, 16, 16>(0.0f);
                    multiply_held<F, D, STRIDE>(scores[b], query, block + 16 * b * STRIDE, D);
                }
                tile_rows<float> before = largest;
                bool whole = key >= highest && key + BLOCK <= own + offset + 1;
                #pragma unroll
                for (int b = 0; b < BLOCK / 16; ++b) {
                    tile_for_each(scores[b], row, column, value) { value *= factor; }
                    if (!whole) {
                        tile_with_rows(scores[b], from, row, column, value, first_key) {
                            int at = key + 16 * b + column;
                            if (at < first_key || at > own + row + offset) value = -INFINITY;
                        }
                    }
                    tile_rows<float> top = tile_row_max(scores[b]);
                    for (int i = 0; i < 2; ++i) largest.at[i] = max(largest.at[i], top.at[i]);
                }
                tile_rows<float> fading;
                for (int i = 0; i < 2; ++i) {
                    shift.at[i] = largest.at[i] == -INFINITY ? 0.0f : largest.at[i];
                    fading.at[i] = exp2(before.at[i] - shift.at[i]);
                    total.at[i] *= fading.at[i];
                }
                // After a few blocks the largest score seldom changes, so the sums are seldom rescaled.
                if (simd_any(fading.at[0] != 1.0f || fading.at[1] != 1.0f)) {
                    #pragma unroll
                    for (int c = 0; c < E / 16; ++c) {
                        tile_with_rows(sum[c], fading, row, column, value, of_row) { value *= of_row; }
                    }
                }
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            int next = key + BLOCK;
            if (next < end) {
                tile_copy_rows(block, STRIDE, keys + (keys_before + next) * D, D, BLOCK, D, min(S - next, int(BLOCK)), thread_index, 128);
            }
            if (sees) {
                #pragma unroll
                for (int b = 0; b < BLOCK / 16; ++b) {
                    tile_with_rows(scores[b], shift, row, column, value, of_row) { value = exp2(value - of_row); }
                    tile_rows<float> more = tile_row_sum(scores[b]);
                    for (int i = 0; i < 2; ++i) total.at[i] += more.at[i];
                    tile<F, 16, 16> weights = tile_cast<F>(scores[b]);
                    #pragma unroll
                    for (int c = 0; c < E / 16; ++c) {
                        right_tile<F, 16, 16> right;
                        tile_load_right(right, block + (BLOCK + 16 * b) * STRIDE + 16 * c, STRIDE);
                        tile_multiply_accumulate(sum[c], weights, right);
                    }
                }
            }
        }

        if (own >= T) return;
        tile_rows<float> inverse, logarithm;
        for (int i = 0; i < 2; ++i) {
            bool any = total.at[i] > 0.0f;
            inverse.at[i] = any ? 1.0f / total.at[i] : 0.0f;
            // A query that sees no key gets the logarithm infinity, so that the backward computes 2^-infinity as every
            // weight.
            logarithm.at[i] = any ? largest.at[i] + log2(total.at[i]) : INFINITY;
        }
        tile_with_rows(sum[0], logarithm, row, column, value, of_row) {
            if (column == 0 && own + row < T) log_sums[rows_before + own + row] = of_row;
        }
        device F* rows = output + (rows_before + own) * E;
        #pragma unroll
        for (int c = 0; c < E / 16; ++c) {
            tile_with_rows(sum[c], inverse, row, column, value, of_row) { value *= of_row; }
            store_rows(sum[c], rows + 16 * c, E, T - own);
        }
    }
}
