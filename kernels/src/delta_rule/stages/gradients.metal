// The gradients of a chunk; see `gradients.rs`.
constexpr int TILES = C / 16;
constexpr int PACKED = TILES * (TILES + 1) / 2 * 256;
const int chunk = threadgroup_position_in_grid.x;
const int head = threadgroup_position_in_grid.y;
const int batch = threadgroup_position_in_grid.z;
const int thread_index = thread_index_in_threadgroup;
const int lane = thread_index_in_simdgroup;
const int own = simdgroup_index_in_threadgroup;
const ulong token = ulong(batch) * L + chunk * C;
const ulong heads = ulong(batch) * Hv + head;
const ulong cell = heads * L + chunk * C;
const ulong place = heads * (L / C) + chunk;
const int key_stride = Hk * Dk;
const int value_stride = Hv * Dv;
const device F* query = queries + token * key_stride + head / (Hv / Hk) * Dk;
const device F* key = keys + token * key_stride + head / (Hv / Hk) * Dk;
const device F* d_output = y_cotangent + (token + own * 16) * value_stride + head * Dv;
const device float* error = errors + cell * Dv;
const device float* d_write = written_cotangent + cell * Dv;
const device float* state = chunk_states + place * Dv * Dk;
const device float* d_exit = exit_cotangents + place * Dv * Dk;

device float* solved = solved_cotangent + (cell + own * 16) * Dv;

threadgroup float strength[C];
threadgroup Gates since[C];
// Matrices of the chunk: first what is summed over rows and columns, then what other simdgroups multiply by.
threadgroup float first[PACKED];
threadgroup float second[PACKED];
threadgroup float along[C * 16];
threadgroup float from_start[C];
threadgroup float until_end[C];
threadgroup float by_states[TILES];

if (thread_index < C) {
    since[thread_index] = Gates{gates[2 * (cell + thread_index)], gates[2 * (cell + thread_index) + 1]};
    strength[thread_index] = float(beta[(token + thread_index) * Hv + head]);
}
threadgroup_barrier(mem_flags::mem_threadgroup);
const Gates end = since[C - 1];

// z, the gradient of the values, and the products of its rows and of those of dY with all rows of u before.
tile<float, 16, 16> by_output[TILES];
tile<float, 16, 16> by_error[TILES];
tile<float, 16, 16> d_strength(0.0f);
{
    tile<float, 16, 16> columns[TILES];
    #pragma unroll
    for (int i = 0; i < TILES; ++i) {
        by_output[i] = tile<float, 16, 16>(0.0f);
        by_error[i] = tile<float, 16, 16>(0.0f);
        if (i >= own) {
            tile_load_transposed(columns[i], inverse + place * PACKED + lower_tile(i, own), 16);
            tile_for_each(columns[i], row, column, value) { value *= strength[i * 16 + column]; }
        }
    }
    for (int d = 0; d < Dv; d += 16) {
        tile<float, 16, 16> z(0.0f);
        #pragma unroll
        for (int i = 0; i < TILES; ++i) {
            if (i >= own) {
                right_tile<float, 16, 16> right;
                tile_load_right(right, d_write + i * 16 * Dv + d, Dv);
                multiply_floats<F>(z, columns[i], right);
            }
        }
        tile_store(z, in_pairs(solved + d), Dv / 2);
        tile_store(z, in_pairs(value_gradient + (token + own * 16) * value_stride + head * Dv + d), value_stride / 2);
        tile<F, 16, 16> d_own;
        tile_load(d_own, in_pairs(d_output + d), value_stride / 2);
        #pragma unroll
        for (int j = 0; j < TILES; ++j) {
            if (j <= own) {
                right_tile<float, 16, 16> right;
                tile_load_right_transposed(right, in_pairs(error + j * 16 * Dv + d), Dv / 2);
                tile_multiply_accumulate(by_output[j], d_own, right);
                multiply_floats<F>(by_error[j], z, right);
            }
        }
        tile<float, 16, 16> own_error;
        tile<float, 16, 16> own_write;
        tile_load(own_error, in_pairs(error + own * 16 * Dv + d), Dv / 2);
        tile_load(own_write, in_pairs(d_write + own * 16 * Dv + d), Dv / 2);
        tile_multiply_accumulate_elements(d_strength, own_error, own_write);
    }
}
tile_store(d_strength, along + own * 256, 16);

// The cotangents of the scores; what they say of the decays and of beta goes to threadgroup memory.
#pragma unroll
for (int j = 0; j < TILES; ++j) {
    if (j <= own) {
        tile<float, 16, 16> query_scores(0.0f);
        tile<float, 16, 16> key_scores(0.0f);
        for (int k = 0; k < Dk; k += 16) {
            tile<F, 16, 16> own_query;
            tile<F, 16, 16> own_key;
            right_tile<F, 16, 16> right;
            tile_load(own_query, in_pairs(query + own * 16 * key_stride + k), key_stride / 2);
            tile_load(own_key, in_pairs(key + own * 16 * key_stride + k), key_stride / 2);
            tile_load_right_transposed(right, in_pairs(key + j * 16 * key_stride + k), key_stride / 2);
            tile_multiply_accumulate(query_scores, own_query, right);
            tile_multiply_accumulate(key_scores, own_key, right);
        }
        tile_for_each(by_output[j], row, column, value) {
            const int later = own * 16 + row;
            const int earlier = j * 16 + column;
            value = earlier <= later ? value * decay_between(since[earlier], since[later]) * strength[earlier] : 0.0f;
        }
        tile_for_each(by_error[j], row, column, value) {
            const int later = own * 16 + row;
            const int earlier = j * 16 + column;
            value = earlier < later ? value * decay_between(since[earlier], since[later]) : 0.0f;
        }
        tile<float, 16, 16> decays(0.0f);
        tile<float, 16, 16> overlaps(0.0f);
        tile_multiply_accumulate_elements(decays, by_output[j], query_scores);
        tile_multiply_accumulate_elements(overlaps, by_error[j], key_scores);
        tile_store(decays, first + lower_tile(own, j), 16);
        tile_store(overlaps, second + lower_tile(own, j), 16);
        tile_for_each(by_error[j], row, column, value) { value *= -strength[j * 16 + column]; }
    }
}
threadgroup_barrier(mem_flags::mem_threadgroup);

float d_own_strength = 0.0f;
if (thread_index < C) {
    const int tile_of = thread_index / 16;
    const int within = thread_index % 16;
    for (int k = 0; k < 16; ++k) { d_own_strength += along[thread_index * 16 + k]; }
    for (int i = thread_index + 1; i < C; ++i) {
        d_own_strength -= second[lower_tile(i / 16, tile_of) + i % 16 * 16 + within];
    }
    // Along the own row, each element becomes the sum of those before it.
    float sum = 0.0f;
    for (int j = 0; j <= thread_index; ++j) {
        const int at = lower_tile(tile_of, j / 16) + within * 16 + j % 16;
        const float next = first[at] - second[at] * strength[j];
        first[at] = sum;
        sum += next;
    }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
float d_gate = 0.0f;
if (thread_index < C) {
    for (int i = thread_index; i < C; ++i) {
        d_gate += first[lower_tile(i / 16, thread_index / 16) + i % 16 * 16 + thread_index % 16];
    }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
for (int j = 0; j < TILES; ++j) {
    if (j <= own) {
        tile_store(by_output[j], first + lower_tile(own, j), 16);
        tile_store(by_error[j], second + lower_tile(own, j), 16);
    }
}
float product = 0.0f;
for (int i = thread_index; i < Dv * Dk; i += 2 * C) { product += state[i] * d_exit[i]; }
product = simd_sum(product);
if (lane == 0) { by_states[own] = product; }
threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);

tile<float, 16, 16> d_start(0.0f);
tile<float, 16, 16> d_end(0.0f);
// Two tiles of channels at once: what they are multiplied by from the left is loaded and split once.
for (int pair = 0; pair < Dk; pair += 32) {
    tile<float, 16, 16> d_query[2];
    tile<float, 16, 16> d_reading[2];
    tile<float, 16, 16> d_key[2];
    #pragma unroll
    for (int side = 0; side < 2; ++side) {
        d_query[side] = tile<float, 16, 16>(0.0f);
        d_reading[side] = tile<float, 16, 16>(0.0f);
        d_key[side] = tile<float, 16, 16>(0.0f);
    }
    for (int d = 0; d < Dv; d += 16) {
        tile<F, 16, 16> d_own;
        tile<float, 16, 16> z;
        tile<float, 16, 16> own_error;
        tile_load(d_own, in_pairs(d_output + d), value_stride / 2);
        tile_load(z, in_pairs(solved + d), Dv / 2);
        tile_load(own_error, in_pairs(error + own * 16 * Dv + d), Dv / 2);
        #pragma unroll
        for (int side = 0; side < 2; ++side) {
            const int k = pair + side * 16;
            if (k < Dk) {
                right_tile<float, 16, 16> entry;
                right_tile<float, 16, 16> exit;
                tile_load_right(entry, state + d * Dk + k, Dk);
                tile_load_right(exit, d_exit + d * Dk + k, Dk);
                tile_multiply_accumulate(d_query[side], d_own, entry);
                multiply_floats<F>(d_reading[side], z, entry);
                multiply_floats<F>(d_key[side], own_error, exit);
            }
        }
    }
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
        tile<float, 16, 16> by_queries;
        tile<float, 16, 16> by_keys;
        tile<float, 16, 16> by_later_queries;
        tile<float, 16, 16> by_later_keys;
        if (j <= own) {
            tile_load(by_queries, first + lower_tile(own, j), 16);
            tile_load(by_keys, second + lower_tile(own, j), 16);
        }
        if (j >= own) {
            tile_load_transposed(by_later_queries, first + lower_tile(j, own), 16);
            tile_load_transposed(by_later_keys, second + lower_tile(j, own), 16);
        }
        #pragma unroll
        for (int side = 0; side < 2; ++side) {
            const int k = pair + side * 16;
            if (k < Dk) {
                right_tile<F, 16, 16> other_key;
                tile_load_right(other_key, key + j * 16 * key_stride + k, key_stride);
                if (j <= own) {
                    tile_multiply_accumulate(d_query[side], by_queries, other_key);
                    tile_multiply_accumulate(d_key[side], by_keys, other_key);
                }
                if (j >= own) {
                    right_tile<F, 16, 16> other_query;
                    tile_load_right(other_query, query + j * 16 * key_stride + k, key_stride);
                    tile_multiply_accumulate(d_key[side], by_later_queries, other_query);
                    tile_multiply_accumulate(d_key[side], by_later_keys, other_key);
                }
            }
        }
    }
    #pragma unroll
    for (int side = 0; side < 2; ++side) {
        const int k = pair + side * 16;
        if (k < Dk) {
            const ulong at = ((token + own * 16) * Hv + head) * Dk + k;
            tile_store(d_query[side], in_pairs(query_gradient + at), Hv * Dk / 2);
            tile_store(d_key[side], in_pairs(key_gradient + at), Hv * Dk / 2);
        }
    }
}
threadgroup_barrier(mem_flags::mem_threadgroup);

tile_store(d_start, first + own * 256, 16);
tile_store(d_end, second + own * 256, 16);
threadgroup_barrier(mem_flags::mem_threadgroup);
if (thread_index < C) {
    float start = 0.0f;
    float until = 0.0f;
    for (int k = 0; k < 16; ++k) {
        start += first[thread_index * 16 + k];
        until += second[thread_index * 16 + k];
    }
    from_start[thread_index] = start;
    until_end[thread_index] = until;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
if (thread_index < C) {
    float throughout = 0.0f;
    for (int i = 0; i < TILES; ++i) { throughout += by_states[i]; }
    d_gate += throughout * decay_since(end);
    for (int i = thread_index; i < C; ++i) { d_gate += from_start[i]; }
    for (int j = 0; j < thread_index; ++j) { d_gate += until_end[j]; }
    log_decay_gradient[(token + thread_index) * Hv + head] = d_gate;
    beta_gradient[(token + thread_index) * Hv + head] = G(d_own_strength);
}
