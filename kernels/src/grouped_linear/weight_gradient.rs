//! The gradients of the experts' matrices.

use cotangent::kernel::Stages;
use cotangent::{Indices, Infer, Result, Tensor, stage};

use super::blocks::{BLOCKS, Blocks};
use super::shares::SHARES;

/// The sum of `cotangent^T x` over the rows of each expert, in their order: a threadgroup has a block of one expert's gradient,
/// so that nothing is added by two of them.
#[stage(
    requires = [R <= 67108864, R * N >= 8, R * K >= 8],
    grid = (128 * ceil_div(K, COLUMNS) * ceil_div(N, ROWS) * E, 1, 1),
    threads = (128, 1, 1),
    headers = [SHARES, BLOCKS],
    cases = [(R = 40, K = 37, E = 3, N = 20, ROWS = 32, COLUMNS = 32, DEPTH = 16)],
)]
pub(super) fn expert_gradients<T: Float, const ROWS: usize, const COLUMNS: usize, const DEPTH: usize>(
    x: In![T; R, K],
    cotangent: In![T; R, N],
    #[values(0..ceil_div(2 * R, E) + 1)] counts: In![i32; E],
    gradients: Out![T; E, N, K],
) {
    metal! {
        constexpr int DOWN = ROWS / 32;
        constexpr int ACROSS = COLUMNS / 32;
        constexpr int LEFT_STRIDE = ROWS + 16 / sizeof(T);
        constexpr int RIGHT_STRIDE = COLUMNS + 16 / sizeof(T);
        constexpr int SIZE = DEPTH * (LEFT_STRIDE + RIGHT_STRIDE);
        threadgroup T memory[2 * DEPTH * (ROWS + COLUMNS + 32 / sizeof(T))];
        uint index = thread_index_in_threadgroup;
        int simdgroup = int(simdgroup_index_in_threadgroup);
        int across = (K + COLUMNS - 1) / COLUMNS;
        int down = (N + ROWS - 1) / ROWS;
        int number = int(threadgroup_position_in_grid.x);
        int column = number % across * COLUMNS;
        int row = number / across % down * ROWS;
        int expert = number / across / down;
        Share share = all_of_expert(counts, expert, E, R, int(thread_index_in_simdgroup));
        int used_rows = N - row - simdgroup / 2 * 16;
        int used_columns = K - column - simdgroup % 2 * (COLUMNS / 2);
        tile<float, 16, 16> sums[DOWN * ACROSS];
        #pragma unroll
        for (int i = 0; i < DOWN * ACROSS; ++i) { sums[i] = tile<float, 16, 16>(0.0f); }

        // The first rows are loaded before the first barrier; then the next rows are loaded while these are multiplied.
        int turn = 1;
        for (int first = share.first - DEPTH; first < share.end; first += DEPTH) {
            int next = first + DEPTH;
            threadgroup T* here = memory + turn * SIZE;
            threadgroup T* there = memory + (1 - turn) * SIZE;
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (next < share.end) {
                const device T* left = cotangent + (ulong(next) * ulong(N) + ulong(row));
                const device T* right = x + (ulong(next) * ulong(K) + ulong(column));
                copy_block(there, LEFT_STRIDE, left, N, DEPTH, ROWS, share.end - next, N - row, index);
                copy_block(there + DEPTH * LEFT_STRIDE, RIGHT_STRIDE, right, K, DEPTH, COLUMNS, share.end - next, K - column, index);
            }
            if (first >= share.first && used_rows > 0 && used_columns > 0) {
                const threadgroup T* left = here + simdgroup / 2 * 16;
                const threadgroup T* right = here + DEPTH * LEFT_STRIDE + simdgroup % 2 * (COLUMNS / 2);
                if (used_rows > ROWS - 32) {
                    multiply_block<T, true, true, true, DOWN, ACROSS, DEPTH>(sums, left, LEFT_STRIDE, right, RIGHT_STRIDE, used_rows);
                } else {
                    multiply_block<T, true, true, false, DOWN, ACROSS, DEPTH>(sums, left, LEFT_STRIDE, right, RIGHT_STRIDE, used_rows);
                }
            }
            turn = 1 - turn;
        }
        ulong start = (ulong(expert) * ulong(N) + ulong(row + simdgroup / 2 * 16)) * ulong(K);
        device T* to = gradients + (start + ulong(column + simdgroup % 2 * (COLUMNS / 2)));
        store_block<T, DOWN, ACROSS>(sums, to, K, used_rows, used_columns);
    }
}

/// Launches [`expert_gradients`], which the list of `stages` must have, in blocks that suit the backend: rows `[R, K]` and
/// cotangents `[R, N]` give `[E, N, K]`.
pub(super) fn gradients_of_matrices(
    stages: &Stages,
    x: &Tensor<Infer>,
    cotangent: &Tensor<Infer>,
    counts: &Indices,
) -> Result<Tensor<Infer>> {
    let (backend, outputs, inputs) = (cotangent::backend()?, cotangent.dimension(1), x.dimension(1));
    let Blocks { rows, columns, depth } = Blocks::of_gradient(backend, x.dtype(), outputs, inputs);
    expert_gradients(stages, x, cotangent, counts, rows, columns, depth)
}
