//! The gradient of attention in blocks: three launches, no scores in device memory.
//!
//! The weights are computed again from the logarithm of the softmax's denominator. With P the weights, D = rowsum(dO o O) and
//! dS = P o (dO V^T - D): dQ = scale dS K is owned by blocks of queries; dK = scale dS^T Q and dV = P^T dO by blocks of keys,
//! which sum over the query heads of a group and over queries in a fixed order. Nothing is added by two threadgroups, so
//! results are the same from run to run.

use cotangent::{differentiable, stage};

use super::blocks::attend_in_blocks;
use super::products::PRODUCTS;

/// The gradient of [`attend_in_blocks`](fn@attend_in_blocks).
#[differentiable(backward_of = attend_in_blocks, stages = [output_products, query_gradient, key_gradients])]
pub fn attend_in_blocks_backward<F: Float, const D: usize, const E: usize, const BLOCK: usize>(
    queries: In![F; B, H, T, D],
    keys: In![F; B, G, S, D],
    values: In![F; B, G, S, E],
    first_keys: In![i32; B, T],
    scale: f32,
    output: In![F; B, H, T, E],
    log_sums: In![f32; B, H, T],
    d_output: In![F; B, H, T, E],
    d_queries: Out![F; B, H, T, D],
    d_keys: Out![F; B, G, S, D],
    d_values: Out![F; B, G, S, E],
) {
    let products = &output_products(stages, output, d_output)?;
    let (cotangent, block) = (d_output, BLOCK);
    let d_queries = if wants_d_queries {
        let inputs =
            QueryGradientInputs { queries, keys, values, first_keys, log_sums, products, cotangent, scale, block };
        Some(query_gradient(stages, inputs)?)
    } else {
        None
    };
    let (d_keys, d_values) = if wants_d_keys || wants_d_values {
        let inputs =
            KeyGradientsInputs { queries, keys, values, first_keys, log_sums, products, cotangent, scale, block };
        let both = key_gradients(stages, inputs)?;
        (Some(both.of_keys), Some(both.of_values))
    } else {
        (None, None)
    };
    Ok(Outputs { d_queries, d_keys, d_values })
}

/// D: the inner product of each row's output and its cotangent. A simdgroup takes a row.
#[stage(
    grid = (128 * ceil_div(B * H * T, 4), 1, 1),
    threads = (128, 1, 1),
    cases = [(B = 1, H = 2, T = 19, E = 48), (B = 1, H = 1, T = 1, E = 16)],
)]
fn output_products<F: Float>(output: In![F; B, H, T, E], cotangent: In![F; B, H, T, E], products: Out![f32; B, H, T]) {
    metal! {
        int row = int(threadgroup_position_in_grid.x) * 4 + int(simdgroup_index_in_threadgroup);
        if (row >= B * H * T) return;
        ulong start = ulong(row) * E;
        float sum = 0.0f;
        for (int column = int(thread_index_in_simdgroup); column < E; column += 32) {
            sum += float(output[start + column]) * float(cotangent[start + column]);
        }
        sum = simd_sum(sum);
        if (thread_index_in_simdgroup == 0) products[row] = sum;
    }
}

/// dQ of 64 queries, in passes of 16 keys. Two simdgroups share 16 queries: the first computes P, the second dP, they
/// tell each other, and each forms half of the columns of dQ.
#[stage(
    headers = [PRODUCTS],
    dims = [ROWS = 64],
    grid = (256 * B * H, ceil_div(T, ROWS), 1),
    threads = (256, 1, 1),
    cases = [
        (B = 2, H = 4, T = 19, G = 2, S = 37, D = 48, E = 16, BLOCK = 16),
        (B = 1, H = 1, T = 1, G = 1, S = 1, D = 16, E = 16, BLOCK = 32),
    ],
)]
fn query_gradient<F: Float, const D: usize, const E: usize, const BLOCK: usize>(
    queries: In![F; B, H, T, D],
    keys: In![F; B, G, S, D],
    values: In![F; B, G, S, E],
    #[values(0..S)] first_keys: In![i32; B, T],
    log_sums: In![f32; B, H, T],
    products: In![f32; B, H, T],
    cotangent: In![F; B, H, T, E],
    scale: f32,
    gradient: Out![F; B, H, T, D],
) {
    metal! {
        constexpr int WIDE = D > E ? D : E;
        constexpr int STRIDE = WIDE + 16 / sizeof(F);
        constexpr int HALF = (D / 16 + 1) / 2;
        constexpr int BUFFERS = BLOCK / 16;
        // It holds sixteen keys and sixteen values, in one or two buffers.
        threadgroup F block[BUFFERS * 32 * STRIDE];
        threadgroup float exchange[2 * ROWS * 20];
        uint thread_index = thread_index_in_threadgroup;
        uint lane = thread_index_in_simdgroup;
        int role = int(simdgroup_index_in_threadgroup) % 2;
        int pair = int(simdgroup_index_in_threadgroup) / 2;
        int batch = int(threadgroup_position_in_grid.x) / H;
        int head = int(threadgroup_position_in_grid.x) % H;
        int start = ((T + ROWS - 1) / ROWS - 1 - int(threadgroup_position_in_grid.y)) * ROWS;
        int offset = S - T;
        ulong rows_before = ulong(batch * H + head) * T;
        ulong keys_before = ulong(batch * G + head / (H / G)) * S;

        int first = start + int(lane) < T ? first_keys[batch * T + start + lane] : S;
        int other = start + 32 + int(lane) < T ? first_keys[batch * T + start + 32 + lane] : S;
        int lowest = simd_min(min(first, other));
        int end = min(start + ROWS, T) + offset;
        int own = start + 16 * pair;
        bool counts = own < T;
        tile_rows<int> from;
        tile_rows<float> log_sum, product;
        for (int i = 0; i < 2; ++i) {
            int row = own + int(from.row(i));
            from.at[i] = row < T ? first_keys[batch * T + row] : S;
            log_sum.at[i] = row < T ? log_sums[rows_before + row] : INFINITY;
            product.at[i] = row < T ? products[rows_before + row] : 0.0f;
        }
        int highest = simd_max(max(from.at[0], from.at[1]));
        int nearest = simd_min(min(from.at[0], from.at[1]));
        threadgroup float* mine = exchange + (role * ROWS + 16 * pair) * 20;
        threadgroup float* theirs = exchange + ((1 - role) * ROWS + 16 * pair) * 20;

        tile<F, 16, 16> held[WIDE / 16];
        hold_rows<F, ROWS, D, E, WIDE, STRIDE>(
            held, block, queries + rows_before * D, cotangent + rows_before * E, start, T, role, pair, thread_index);

        tile<float, 16, 16> sum[HALF];
        #pragma unroll
        for (int c = 0; c < HALF; ++c) sum[c] = tile<float, 16, 16>(0.0f);
        float factor = scale * M_LOG2E_F;

        int begin = lowest / 16 * 16;
        int turn = 0;
        if (BUFFERS == 2 && begin < end) {
            threadgroup_barrier(mem_flags::mem_threadgroup);
            int valid = min(S - begin, 16);
            tile_copy_rows(block, STRIDE, keys + (keys_before + begin) * D, D, 16, D, valid, thread_index, 256);
            tile_copy_rows(block + 16 * STRIDE, STRIDE, values + (keys_before + begin) * E, E, 16, E, valid, thread_index, 256);
        }
        for (int key = begin; key < end; key += 16) {
            int next = BUFFERS == 2 ? key + 16 : key;
            int valid = min(S - next, 16);
            threadgroup F* here = block + turn * 32 * STRIDE;
            threadgroup F* there = block + (BUFFERS - 1 - turn) * 32 * STRIDE;
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (next < end) {
                tile_copy_rows(there, STRIDE, keys + (keys_before + next) * D, D, 16, D, valid, thread_index, 256);
            }
            if (BUFFERS == 1) {
                tile_copy_rows(there + 16 * STRIDE, STRIDE, values + (keys_before + next) * E, E, 16, E, valid, thread_index, 256);
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }

            tile<float, 16, 16> scores(0.0f);
            bool sees = counts && key <= own + 15 + offset && key + 16 > nearest;
            if (sees) {
                multiply_held<F, WIDE, STRIDE>(scores, held, here + role * 16 * STRIDE, role == 0 ? D : E);
                if (role == 0) {
                    tile_with_rows(scores, log_sum, row, column, value, of_row) { value = value * factor - of_row; }
                    if (key < highest || key + 16 > own + offset + 1) {
                        tile_with_rows(scores, from, row, column, value, first_key) {
                            if (key + column < first_key || key + column > own + row + offset) value = -INFINITY;
                        }
                    }
                    tile_for_each(scores, row, column, value) { value = exp2(value); }
                } else {
                    tile_with_rows(scores, product, row, column, value, of_row) { value -= of_row; }
                }
                tile_store(scores, mine, 20);
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (BUFFERS == 2 && next < end) {
                tile_copy_rows(there + 16 * STRIDE, STRIDE, values + (keys_before + next) * E, E, 16, E, valid, thread_index, 256);
            }
            if (sees) {
                // The slopes are P (dP - D); each simdgroup of a pair has one factor and reads the other.
                tile<float, 16, 16> told;
                tile_load(told, theirs, 20);
                tile<float, 16, 16> both(0.0f);
                tile_multiply_accumulate_elements(both, scores, told);
                tile<F, 16, 16> slopes = tile_cast<F>(both);
                #pragma unroll
                for (int c = 0; c < HALF; ++c) {
                    int column = role * HALF + c;
                    if (16 * column < D) {
                        right_tile<F, 16, 16> right;
                        tile_load_right(right, here + 16 * column, STRIDE);
                        tile_multiply_accumulate(sum[c], slopes, right);
                    }
                }
            }
            turn = BUFFERS - 1 - turn;
        }

        if (!counts) return;
        device F* rows = gradient + (rows_before + own) * D;
        #pragma unroll
        for (int c = 0; c < HALF; ++c) {
            int first_column = 16 * (role * HALF + c);
            if (first_column < D) {
                tile_for_each(sum[c], row, column, value) { value *= scale; }
                store_rows(sum[c], rows + first_column, D, T - own);
            }
        }
    }
}

/// dK and dV of 64 keys, in passes of 16 queries. Two simdgroups share 16 keys: the first computes P^T and forms dV, the
/// second dP^T and from both dS^T, and forms dK.
#[stage(
    headers = [PRODUCTS],
    dims = [ROWS = 64],
    grid = (256 * B * G, ceil_div(S, ROWS), 1),
    threads = (256, 1, 1),
    cases = [
        (B = 2, H = 4, T = 19, G = 2, S = 37, D = 48, E = 16, BLOCK = 16),
        (B = 1, H = 1, T = 1, G = 1, S = 1, D = 16, E = 16, BLOCK = 32),
    ],
)]
fn key_gradients<F: Float, const D: usize, const E: usize, const BLOCK: usize>(
    queries: In![F; B, H, T, D],
    keys: In![F; B, G, S, D],
    values: In![F; B, G, S, E],
    #[values(0..S)] first_keys: In![i32; B, T],
    log_sums: In![f32; B, H, T],
    products: In![f32; B, H, T],
    cotangent: In![F; B, H, T, E],
    scale: f32,
    of_keys: Out![F; B, G, S, D],
    of_values: Out![F; B, G, S, E],
) {
    metal! {
        constexpr int WIDE = D > E ? D : E;
        constexpr int STRIDE = WIDE + 16 / sizeof(F);
        constexpr int BUFFERS = BLOCK / 16;
        // It holds sixteen queries and their cotangents, in one or two buffers; beside each lie two numbers and the
        // first key.
        threadgroup F block[BUFFERS * 32 * STRIDE];
        threadgroup float of_queries[BUFFERS * 32];
        threadgroup int firsts[BUFFERS * 16];
        threadgroup float exchange[ROWS * 20];
        threadgroup int ends[8];
        uint thread_index = thread_index_in_threadgroup;
        uint lane = thread_index_in_simdgroup;
        int role = int(simdgroup_index_in_threadgroup) % 2;
        int other_role = int(simdgroup_index_in_threadgroup + 1) % 2;
        int pair = int(simdgroup_index_in_threadgroup) / 2;
        int batch = int(threadgroup_position_in_grid.x) / G;
        int group = int(threadgroup_position_in_grid.x) % G;
        // Most queries see the first keys, so their threadgroups begin first.
        int start = int(threadgroup_position_in_grid.y) * ROWS;
        int own = start + 16 * pair;
        bool counts = own < S;
        int last = min(start + ROWS, S) - 1;
        int offset = S - T;
        ulong keys_before = ulong(batch * G + group) * S;
        threadgroup float* shared = exchange + 16 * pair * 20;

        tile<F, 16, 16> held[WIDE / 16];
        hold_rows<F, ROWS, D, E, WIDE, STRIDE>(
            held, block, keys + keys_before * D, values + keys_before * E, start, S, role, pair, thread_index);
        threadgroup_barrier(mem_flags::mem_threadgroup);

        tile<float, 16, 16> sum[WIDE / 16];
        #pragma unroll
        for (int c = 0; c < WIDE / 16; ++c) sum[c] = tile<float, 16, 16>(0.0f);
        float factor = scale * M_LOG2E_F;

        // A pass takes sixteen queries. The passes go from the first to the last query that sees these keys, for each
        // query head. A pass of which no query sees them is left out.
        int seeing = max(start - offset, 0) / 16 * 16;
        int until = 0;
        for (int query = seeing + int(thread_index); query < T; query += 256) {
            if (first_keys[batch * T + query] <= last) until = query + 1;
        }
        until = simd_max(until);
        if (lane == 0) ends[simdgroup_index_in_threadgroup] = until;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (int i = 0; i < 8; ++i) until = max(until, ends[i]);
        int passes = max(until - seeing + 15, 0) / 16;
        int all = passes * (H / G);
        int pass = -1;
        int turn = 0;
        // These belong to the queries that are computed now: the first one, and the last of their first keys.
        int first_query = seeing;
        int latest = 0;
        // These belong to the next queries: first keys are read a pass ahead.
        int head = group * (H / G);
        int query = seeing;
        int coming = lane < 16u && seeing + int(lane) < T ? first_keys[batch * T + seeing + lane] : S;
        for (int next = 0; pass < all; ++next, query += 16) {
            if (query >= seeing + 16 * passes) {
                query = seeing;
                ++head;
            }
            int first = coming;
            int after = query + 16 < seeing + 16 * passes ? query + 16 : seeing;
            coming = lane < 16u && after + int(lane) < T ? first_keys[batch * T + after + lane] : S;
            if (next < all && simd_min(first) > last) continue;
            bool is_query = lane < 16u && next < all && query + int(lane) < T;
            int last_first = simd_max(is_query ? first : 0);
            // With two buffers the first round only loads.
            if (BUFFERS == 1) {
                pass = next;
                first_query = query;
                latest = last_first;
            }
            ulong row = ulong(batch * H + head) * T + query;
            float log_sum = INFINITY;
            float product = 0.0f;
            if (thread_index < 16u && is_query) {
                log_sum = log_sums[row + thread_index];
                product = products[row + thread_index];
            }
            int valid = min(T - query, 16);
            threadgroup F* here = block + turn * 32 * STRIDE;
            threadgroup F* there = block + (BUFFERS - 1 - turn) * 32 * STRIDE;
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (next < all) {
                tile_copy_rows(there, STRIDE, queries + row * D, D, 16, D, valid, thread_index, 256);
                if (BUFFERS == 1) {
                    tile_copy_rows(there + 16 * STRIDE, STRIDE, cotangent + row * E, E, 16, E, valid, thread_index, 256);
                }
            }
            int place = (BUFFERS - 1 - turn) * 16 + int(thread_index);
            if (BUFFERS == 1) {
                if (thread_index < 16u) {
                    firsts[place] = first;
                    of_queries[2 * place] = log_sum;
                    of_queries[2 * place + 1] = product;
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }

            bool computes = counts && pass >= 0 && pass < all && own <= first_query + 15 + offset;
            tile<float, 16, 16> scores(0.0f);
            if (computes) {
                multiply_held<F, WIDE, STRIDE>(scores, held, here + role * 16 * STRIDE, role == 0 ? D : E);
                if (role == 0) {
                    bool whole = own >= latest && own + 15 <= first_query + offset;
                    tile_for_each(scores, key, column, value) {
                        value = value * factor - of_queries[2 * (turn * 16 + column)];
                    }
                    if (!whole) {
                        tile_for_each(scores, key, column, value) {
                            bool before = own + key < firsts[turn * 16 + column];
                            if (before || own + key > first_query + column + offset) value = -INFINITY;
                        }
                    }
                    tile_for_each(scores, key, column, value) { value = exp2(value); }
                    tile_store(scores, shared, 20);
                } else {
                    tile_for_each(scores, key, column, value) { value -= of_queries[2 * (turn * 16 + column) + 1]; }
                }
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (BUFFERS == 2 && next < all) {
                tile_copy_rows(there + 16 * STRIDE, STRIDE, cotangent + row * E, E, 16, E, valid, thread_index, 256);
            }
            if (computes) {
                if (role == 1) {
                    tile<float, 16, 16> weights;
                    tile_load(weights, shared, 20);
                    tile<float, 16, 16> both(0.0f);
                    tile_multiply_accumulate_elements(both, scores, weights);
                    scores = both;
                }
                tile<F, 16, 16> left = tile_cast<F>(scores);
                #pragma unroll
                for (int c = 0; c < WIDE / 16; ++c) {
                    if (16 * c < (role == 0 ? E : D)) {
                        right_tile<F, 16, 16> right;
                        tile_load_right(right, here + other_role * 16 * STRIDE + 16 * c, STRIDE);
                        tile_multiply_accumulate(sum[c], left, right);
                    }
                }
            }
            turn = BUFFERS - 1 - turn;
            if (BUFFERS == 2) {
                // The stores wait until here, so that the reads above have arrived.
                if (thread_index < 16u) {
                    firsts[place] = first;
                    of_queries[2 * place] = log_sum;
                    of_queries[2 * place + 1] = product;
                }
                pass = next;
                first_query = query;
                latest = last_first;
            }
        }

        if (!counts) return;
        int width = role == 0 ? E : D;
        float multiplier = role == 0 ? 1.0f : scale;
        device F* rows = of_keys + (keys_before + own) * D;
        if (role == 0) rows = of_values + (keys_before + own) * E;
        #pragma unroll
        for (int c = 0; c < WIDE / 16; ++c) {
            if (16 * c < width) {
                tile_for_each(sum[c], row, column, value) { value *= multiplier; }
                store_rows(sum[c], rows + 16 * c, width, S - own);
            }
        }
    }
}
