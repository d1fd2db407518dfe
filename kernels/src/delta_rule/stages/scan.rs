//! The states that chunks begin with, one after the other.

use cotangent::stage;

use super::{DECAY, PAIRS};

/// One simdgroup carries sixteen rows of a state from chunk to chunk in its registers: rows do not meet.
///
/// - `errors`: `u`;
/// - `chunk_states`: the states that chunks begin with.
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
pub(crate) fn scan_states<F: Float, G: Float, const C: usize, const Dk: usize, const Dv: usize>(
    keys: In![F; B, L, Hk, Dk],
    #[values(0.0..1.0)] beta: In![G; B, L, Hv],
    #[values(-2.0..0.0)] gates: In![f32; B, Hv, L, 2],
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
        const int first = threadgroup_position_in_grid.x * 16;
        const int head = threadgroup_position_in_grid.y;
        const int batch = threadgroup_position_in_grid.z;
        const ulong heads = ulong(batch) * Hv + head;
        const int key_stride = Hk * Dk;

        tile<float, 16, 16> state[WIDTH];
        #pragma unroll
        for (int k = 0; k < WIDTH; ++k) { tile_load(state[k], in_pairs(initial_state + (heads * Dv + first) * Dk + k * 16), Dk / 2); }

        for (int chunk = 0; chunk < L / C; ++chunk) {
            const ulong token = ulong(batch) * L + chunk * C;
            const ulong cell = heads * L + chunk * C;
            const device F* key = keys + token * key_stride + head / (Hv / Hk) * Dk;
            const Gates end = Gates{gates[2 * (cell + C - 1)], gates[2 * (cell + C - 1) + 1]};

            right_tile<float, 16, 16> across[WIDTH];
            #pragma unroll
            for (int k = 0; k < WIDTH; ++k) {
                tile_store(state[k], in_pairs(chunk_states + ((heads * (L / C) + chunk) * Dv + first) * Dk + k * 16), Dk / 2);
                across[k] = tile_as_right_transposed(state[k]);
            }
            tile<float, 16, 16> written[TILES];
            #pragma unroll
            for (int i = 0; i < TILES; ++i) {
                tile<float, 16, 16> error;
                tile_load(error, in_pairs(solved_values + (cell + i * 16) * Dv + first), Dv / 2);
                #pragma unroll
                for (int k = 0; k < WIDTH; ++k) {
                    tile<float, 16, 16> reading;
                    tile_load(reading, in_pairs(solved_keys + (cell + i * 16) * Dk + k * 16), Dk / 2);
                    tile_multiply_accumulate(error, reading, across[k]);
                }
                tile_store(error, in_pairs(errors + (cell + i * 16) * Dv + first), Dv / 2);
                tile_for_each(error, row, column, value) {
                    const ulong at = cell + i * 16 + row;
                    const Gates here = Gates{gates[2 * at], gates[2 * at + 1]};
                    value *= float(beta[(token + i * 16 + row) * Hv + head]) * decay_between(here, end);
                }
                written[i] = tile_transpose(error);
            }
            const float throughout = decay_since(end);
            #pragma unroll
            for (int k = 0; k < WIDTH; ++k) {
                tile_for_each(state[k], row, column, value) { value *= throughout; }
                #pragma unroll
                for (int i = 0; i < TILES; ++i) {
                    right_tile<F, 16, 16> writing;
                    tile_load_right(writing, key + i * 16 * key_stride + k * 16, key_stride);
                    tile_multiply_accumulate(state[k], written[i], writing);
                }
            }
        }
        #pragma unroll
        for (int k = 0; k < WIDTH; ++k) { tile_store(state[k], in_pairs(final_state + (heads * Dv + first) * Dk + k * 16), Dk / 2); }
    }
}
