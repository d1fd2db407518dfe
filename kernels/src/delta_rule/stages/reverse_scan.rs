//! The cotangents of the states that chunks end with, from the last chunk to the first.

use cotangent::stage;

use super::{DECAY, PAIRS};

/// One simdgroup carries sixteen rows of the state's cotangent from chunk to chunk in its registers.
///
/// - `written_cotangent`: `dD`;
/// - `exit_cotangents`: `dS'` of each chunk.
#[stage(
    grid = (2 * Dv, Hv, B),
    threads = (32, 1, 1),
    headers = [PAIRS, DECAY],
    cases = [
        (B = 1, L = 16, Hk = 1, Hv = 1, Dk = 16, Dv = 16, C = 16),
        (B = 2, L = 64, Hk = 1, Hv = 3, Dk = 32, Dv = 16, C = 16),
        (B = 1, L = 64, Hk = 2, Hv = 2, Dk = 16, Dv = 32, C = 32),
    ],
)]
pub(crate) fn scan_cotangents<F: Float, G: Float, const C: usize, const Dk: usize, const Dv: usize>(
    queries: In![F; B, L, Hk, Dk],
    keys: In![F; B, L, Hk, Dk],
    #[values(0.0..1.0)] beta: In![G; B, L, Hv],
    #[values(-2.0..0.0)] gates: In![f32; B, Hv, L, 2],
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
        const int first = threadgroup_position_in_grid.x * 16;
        const int head = threadgroup_position_in_grid.y;
        const int batch = threadgroup_position_in_grid.z;
        const ulong heads = ulong(batch) * Hv + head;
        const int key_stride = Hk * Dk;

        tile<float, 16, 16> d_state[WIDTH];
        #pragma unroll
        for (int k = 0; k < WIDTH; ++k) { tile_load(d_state[k], in_pairs(final_cotangent + (heads * Dv + first) * Dk + k * 16), Dk / 2); }

        for (int chunk = L / C - 1; chunk >= 0; --chunk) {
            const ulong token = ulong(batch) * L + chunk * C;
            const ulong cell = heads * L + chunk * C;
            const device F* query = queries + token * key_stride + head / (Hv / Hk) * Dk;
            const device F* key = keys + token * key_stride + head / (Hv / Hk) * Dk;
            const device F* d_output = y_cotangent + (token * Hv + head) * Dv + first;
            const Gates end = Gates{gates[2 * (cell + C - 1)], gates[2 * (cell + C - 1) + 1]};

            right_tile<float, 16, 16> across[WIDTH];
            #pragma unroll
            for (int k = 0; k < WIDTH; ++k) {
                tile_store(d_state[k], in_pairs(exit_cotangents + ((heads * (L / C) + chunk) * Dv + first) * Dk + k * 16), Dk / 2);
                across[k] = tile_as_right_transposed(d_state[k]);
            }
            tile<float, 16, 16> d_solved[TILES];
            tile<float, 16, 16> d_read[TILES];
            #pragma unroll
            for (int i = 0; i < TILES; ++i) {
                tile<float, 16, 16> by_state(0.0f);
                #pragma unroll
                for (int k = 0; k < WIDTH; ++k) {
                    tile<F, 16, 16> writing;
                    tile_load(writing, in_pairs(key + i * 16 * key_stride + k * 16), key_stride / 2);
                    tile_multiply_accumulate(by_state, writing, across[k]);
                }
                tile<float, 16, 16> decays(0.0f);
                tile_for_each(decays, row, column, value) {
                    const ulong at = cell + i * 16 + row;
                    value = decay_between(Gates{gates[2 * at], gates[2 * at + 1]}, end);
                }
                tile<float, 16, 16> sum;
                tile_load(sum, in_pairs(written_cotangent_here + (cell + i * 16) * Dv + first), Dv / 2);
                tile_multiply_accumulate_elements(sum, by_state, decays);
                tile_store(sum, in_pairs(written_cotangent + (cell + i * 16) * Dv + first), Dv / 2);
                tile_for_each(sum, row, column, value) { value *= float(beta[(token + i * 16 + row) * Hv + head]); }
                d_solved[i] = tile_transpose(sum);

                tile_load_transposed(d_read[i], d_output + i * 16 * Hv * Dv, Hv * Dv);
                tile_for_each(d_read[i], row, column, value) {
                    const ulong at = cell + i * 16 + column;
                    value *= decay_since(Gates{gates[2 * at], gates[2 * at + 1]});
                }
            }
            const float throughout = decay_since(end);
            #pragma unroll
            for (int k = 0; k < WIDTH; ++k) {
                tile_for_each(d_state[k], row, column, value) { value *= throughout; }
                #pragma unroll
                for (int i = 0; i < TILES; ++i) {
                    right_tile<F, 16, 16> reading;
                    right_tile<float, 16, 16> solved;
                    tile_load_right(reading, query + i * 16 * key_stride + k * 16, key_stride);
                    tile_load_right(solved, solved_keys + (cell + i * 16) * Dk + k * 16, Dk);
                    tile_multiply_accumulate(d_state[k], d_read[i], reading);
                    tile_multiply_accumulate(d_state[k], d_solved[i], solved);
                }
            }
        }
        #pragma unroll
        for (int k = 0; k < WIDTH; ++k) { tile_store(d_state[k], in_pairs(initial_cotangent + (heads * Dv + first) * Dk + k * 16), Dk / 2); }
    }
}
