//! The cotangents of the states that chunks end with, from the last chunk to the first.

use cotangent::stage;

use super::{DECAY, FLOATS, PAIRS};

/// Each threadgroup carries sixteen rows of the state's cotangent from chunk to chunk, as the forward scan does with
/// the state.
///
/// - `written_cotangent`: `dD`;
/// - `exit_cotangents`: `dS'` of each chunk.
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
pub(crate) fn scan_cotangents<F: Float, G: Float, const C: usize, const Dk: usize, const Dv: usize>(
    queries: In![F; B, L, Hk, Dk],
    keys: In![F; B, L, Hk, Dk],
    #[values(0.0..1.0)] beta: In![G; B, L, Hv],
    #[values(-2.0..0.0)] gates: Option<In![f32; B, Hv, L, 2]>,
    #[values(0.0..1.0)] throughout: Option<In![f32; B, Hv, L / C, Dk]>,
    solved_keys: In![f32; B, Hv, L, Dk],
    y_cotangent: In![F; B, L, Hv, Dv],
    written_cotangent_here: In![f32; B, Hv, L, Dv],
    final_cotangent: In![f32; B, Hv, Dv, Dk],
    written_cotangent: Out![f32; B, Hv, L, Dv],
    exit_cotangents: Out![f32; B, Hv, L / C, Dv, Dk],
    initial_cotangent: Out![f32; B, Hv, Dv, Dk],
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
        threadgroup float2 d_solves[TILES * 128];
        threadgroup float2 d_reads[TILES * 128];

        tile<float, 16, 16> d_state[SHARE];
        #pragma unroll
        for (int s = 0; s < SHARE; ++s) {
            const int k = (own + 4 * s) * 16;
            if (k < Dk) { tile_load(d_state[s], in_pairs(final_cotangent + (heads * Dv + first) * Dk + k), Dk / 2); }
        }

        for (int chunk = L / C - 1; chunk >= 0; --chunk) {
            const ulong token = ulong(batch) * L + chunk * C;
            const ulong cell = heads * L + chunk * C;
            const device F* query = queries + token * key_stride + head / (Hv / Hk) * Dk;
            const device F* key = keys + token * key_stride + head / (Hv / Hk) * Dk;
            const device F* d_output = y_cotangent + (token * Hv + head) * Dv + first;
            device float* d_exit = exit_cotangents + ((heads * (L / C) + chunk) * Dv + first) * Dk;
            Gates end = Gates{0.0f, 0.0f};
            if (HAS_gates) { end = gates_at(gates, cell + C - 1); }

            // The cotangents that come back through the state: the sums of each simdgroup's channels, then of all
            // channels.
            tile<float, 16, 16> through[TILES];
            #pragma unroll
            for (int i = 0; i < TILES; ++i) { through[i] = tile<float, 16, 16>(0.0f); }
            #pragma unroll
            for (int s = 0; s < SHARE; ++s) {
                const int k = (own + 4 * s) * 16;
                if (k < Dk) {
                    tile_store(d_state[s], in_pairs(d_exit + k * 16), 8);
                    const right_tile<float, 16, 16> across = tile_as_right_transposed(d_state[s]);
                    #pragma unroll
                    for (int i = 0; i < TILES; ++i) {
                        tile<F, 16, 16> writing;
                        tile_load(writing, in_pairs(key + i * 16 * key_stride + k), key_stride / 2);
                        tile_multiply_accumulate(through[i], writing, across);
                    }
                }
            }
            #pragma unroll
            for (int i = 0; i < TILES; ++i) { tile_store(through[i], parts + (own * TILES + i) * 128, 8); }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (int i = own; i < TILES; i += 4) {
                tile<float, 16, 16> decays(1.0f);
                if (HAS_gates) {
                    tile_for_each(decays, row, column, value) {
                        value = decay_between(gates_at(gates, cell + i * 16 + row), end);
                    }
                }
                tile<float, 16, 16> sum;
                tile_load(sum, in_pairs(written_cotangent_here + (cell + i * 16) * Dv + first * 16), 8);
                #pragma unroll
                for (int p = 0; p < 4; ++p) {
                    tile<float, 16, 16> part;
                    tile_load(part, parts + (p * TILES + i) * 128, 8);
                    tile_multiply_accumulate_elements(sum, part, decays);
                }
                tile_store(sum, in_pairs(written_cotangent + (cell + i * 16) * Dv + first * 16), 8);
                tile_for_each(sum, row, column, value) { value *= float(beta[(token + i * 16 + row) * Hv + head]); }
                tile_store(tile_transpose(sum), d_solves + i * 128, 8);

                tile<float, 16, 16> d_read;
                tile_load(d_read, in_pairs(d_output + i * 16 * Hv * Dv), Hv * Dv / 2);
                if (HAS_gates) {
                    tile_for_each(d_read, row, column, value) {
                        value *= decay_since(gates_at(gates, cell + i * 16 + row));
                    }
                }
                tile_store(tile_transpose(d_read), d_reads + i * 128, 8);
            }
            // All threadgroups of a head read the next chunk, so each prefetches a share of it.
            if (chunk > 0) {
                const int sharing = threadgroup_position_in_grid.x * 128 + thread_index;
                const device float* here = written_cotangent_here + (cell - C) * Dv + first * 16;
                tile_prefetch_rows(solved_keys + (cell - C) * Dk, C * Dk, 1, C * Dk, sharing, 8 * Dv);
                tile_prefetch_rows(key - C * key_stride, key_stride, C, Dk, sharing, 8 * Dv);
                tile_prefetch_rows(query - C * key_stride, key_stride, C, Dk, sharing, 8 * Dv);
                tile_prefetch_rows(here, 16 * Dv, TILES, 256, thread_index, 128);
                tile_prefetch_rows(d_output - C * Hv * Dv, Hv * Dv, C, 16, thread_index, 128);
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            const float decay = HAS_gates ? decay_since(end) : 1.0f;
            #pragma unroll
            for (int s = 0; s < SHARE; ++s) {
                const int k = (own + 4 * s) * 16;
                if (k < Dk) {
                    tile_for_each(d_state[s], row, column, value) {
                        value *= decay;
                        if (HAS_throughout) { value *= throughout[(heads * (L / C) + chunk) * Dk + k + column]; }
                    }
                    #pragma unroll 2
                    for (int i = 0; i < TILES; ++i) {
                        tile<float, 16, 16> left;
                        right_tile<F, 16, 16> reading;
                        right_tile<float, 16, 16> solved;
                        tile_load(left, d_reads + i * 128, 8);
                        tile_load_right(reading, query + i * 16 * key_stride + k, key_stride);
                        tile_multiply_accumulate(d_state[s], left, reading);
                        tile_load(left, d_solves + i * 128, 8);
                        tile_load_right(solved, solved_keys + (cell + i * 16) * Dk + k * 16, 16);
                        multiply_floats<F>(d_state[s], left, solved);
                    }
                }
            }
        }
        #pragma unroll
        for (int s = 0; s < SHARE; ++s) {
            const int k = (own + 4 * s) * 16;
            if (k < Dk) { tile_store(d_state[s], in_pairs(initial_cotangent + (heads * Dv + first) * Dk + k), Dk / 2); }
        }
    }
}
