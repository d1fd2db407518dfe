//! The states that chunks begin with, one after the other.

use cotangent::stage;

use super::{DECAY, FLOATS, PAIRS};

/// A threadgroup carries sixteen rows of a state from chunk to chunk, each of its four simdgroups every fourth tile of
/// them, in its registers. Rows of a state do not meet.
///
/// - `gates`: the sums of log gates, where heads have one; the keys carry the decays of channels until the chunk's end
///   themselves, and `throughout` is that over the whole chunk;
/// - `errors`: `u`;
/// - `chunk_states`: the states that chunks begin with.
#[stage(
    grid = (8 * Dv, Hv, B),
    threads = (128, 1, 1),
    headers = [PAIRS, FLOATS, DECAY],
    cases = [
        (B = 1, L = 16, Hk = 1, Hv = 1, Dk = 16, Dv = 16, C = 16),
        (B = 2, L = 64, Hk = 1, Hv = 3, Dk = 32, Dv = 16, C = 16),
        (B = 1, L = 64, Hk = 2, Hv = 2, Dk = 80, Dv = 32, C = 32),
    ],
)]
pub(crate) fn scan_states<F: Float, G: Float, const C: usize, const Dk: usize, const Dv: usize>(
    keys: In![F; B, L, Hk, Dk],
    #[values(0.0..1.0)] beta: In![G; B, L, Hv],
    #[values(-2.0..0.0)] gates: Option<In![f32; B, Hv, L, 2]>,
    #[values(0.0..1.0)] throughout: Option<In![f32; B, Hv, L / C, Dk]>,
    solved_keys: In![f32; B, Hv, L, Dk],
    solved_values: In![f32; B, Hv, L, Dv],
    initial_state: In![f32; B, Hv, Dv, Dk],
    errors: Out![f32; B, Hv, L, Dv],
    chunk_states: Out![f32; B, Hv, L / C, Dv, Dk],
    final_state: Out![f32; B, Hv, Dv, Dk],
) {
    metal! {
        constexpr int TILES = C / 16;
        constexpr int WIDTH = Dk / 16;
        constexpr int SHARE = (WIDTH + 3) / 4;
        const int thread_index = thread_index_in_threadgroup;
        const int own = simdgroup_index_in_threadgroup;
        const int first = threadgroup_position_in_grid.x * 16;
        const int head = threadgroup_position_in_grid.y;
        const int batch = threadgroup_position_in_grid.z;
        const ulong heads = ulong(batch) * Hv + head;
        const int key_stride = Hk * Dk;

        threadgroup float2 parts[4 * TILES * 128];
        threadgroup float2 writes[TILES * 128];

        tile<float, 16, 16> state[SHARE];
        #pragma unroll
        for (int s = 0; s < SHARE; ++s) {
            const int k = (own + 4 * s) * 16;
            if (k < Dk) { tile_load(state[s], in_pairs(initial_state + (heads * Dv + first) * Dk + k), Dk / 2); }
        }

        for (int chunk = 0; chunk < L / C; ++chunk) {
            const ulong token = ulong(batch) * L + chunk * C;
            const ulong cell = heads * L + chunk * C;
            const device F* key = keys + token * key_stride + head / (Hv / Hk) * Dk;
            device float* entry = chunk_states + ((heads * (L / C) + chunk) * Dv + first) * Dk;
            Gates end = Gates{0.0f, 0.0f};
            if (HAS_gates) { end = gates_at(gates, cell + C - 1); }

            // What the state answers: the sums of each simdgroup's channels, then of all channels.
            tile<float, 16, 16> answers[TILES];
            #pragma unroll
            for (int i = 0; i < TILES; ++i) { answers[i] = tile<float, 16, 16>(0.0f); }
            #pragma unroll
            for (int s = 0; s < SHARE; ++s) {
                const int k = (own + 4 * s) * 16;
                if (k < Dk) {
                    tile_store(state[s], in_pairs(entry + k * 16), 8);
                    const right_tile<float, 16, 16> across = tile_as_right_transposed(state[s]);
                    #pragma unroll
                    for (int i = 0; i < TILES; ++i) {
                        tile<float, 16, 16> reading;
                        tile_load(reading, in_pairs(solved_keys + (cell + i * 16) * Dk + k * 16), 8);
                        multiply_floats<F>(answers[i], reading, across);
                    }
                }
            }
            #pragma unroll
            for (int i = 0; i < TILES; ++i) { tile_store(answers[i], parts + (own * TILES + i) * 128, 8); }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            // All threadgroups of a head read the next chunk, so each prefetches a share of it.
            if (chunk + 1 < L / C) {
                const int sharing = threadgroup_position_in_grid.x * 128 + thread_index;
                tile_prefetch_rows(solved_keys + (cell + C) * Dk, C * Dk, 1, C * Dk, sharing, 8 * Dv);
                tile_prefetch_rows(key + C * key_stride, key_stride, C, Dk, sharing, 8 * Dv);
                tile_prefetch_rows(solved_values + (cell + C) * Dv + first * 16, 16 * Dv, TILES, 256, thread_index, 128);
            }
            for (int i = own; i < TILES; i += 4) {
                tile<float, 16, 16> error;
                tile_load(error, in_pairs(solved_values + (cell + i * 16) * Dv + first * 16), 8);
                #pragma unroll
                for (int p = 0; p < 4; ++p) {
                    tile<float, 16, 16> part;
                    tile_load(part, parts + (p * TILES + i) * 128, 8);
                    tile_multiply_accumulate_elements(error, part, tile<float, 16, 16>(1.0f));
                }
                tile_store(error, in_pairs(errors + (cell + i * 16) * Dv + first * 16), 8);
                tile_for_each(error, row, column, value) {
                    value *= float(beta[(token + i * 16 + row) * Hv + head]);
                    if (HAS_gates) { value *= decay_between(gates_at(gates, cell + i * 16 + row), end); }
                }
                tile_store(tile_transpose(error), writes + i * 128, 8);
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            const float decay = HAS_gates ? decay_since(end) : 1.0f;
            #pragma unroll
            for (int s = 0; s < SHARE; ++s) {
                const int k = (own + 4 * s) * 16;
                if (k < Dk) {
                    tile_for_each(state[s], row, column, value) {
                        value *= decay;
                        if (HAS_throughout) { value *= throughout[(heads * (L / C) + chunk) * Dk + k + column]; }
                    }
                    #pragma unroll
                    for (int i = 0; i < TILES; ++i) {
                        tile<float, 16, 16> written;
                        right_tile<F, 16, 16> writing;
                        tile_load(written, writes + i * 128, 8);
                        tile_load_right(writing, key + i * 16 * key_stride + k, key_stride);
                        tile_multiply_accumulate(state[s], written, writing);
                    }
                }
            }
        }
        #pragma unroll
        for (int s = 0; s < SHARE; ++s) {
            const int k = (own + 4 * s) * 16;
            if (k < Dk) { tile_store(state[s], in_pairs(final_state + (heads * Dv + first) * Dk + k), Dk / 2); }
        }
    }
}
