//! Rows on their way to experts and back, each way in one launch.
//!
//! Rows are read where they lie, and no array as long as all rows is kept but the result. A sum is formed in float32 in
//! the order of a token's choices, and rounded once.

use cotangent::{Graph, Indices, Result, Tensor, differentiable};

use crate::parts::PARTS;

/// Spreads rows to choices: `y[r] = x[choices[r] / S]`, for `S` choices of each token. Rows `[N, W]` and choices `[R]` give `[R, W]`.
///
/// A simdgroup has a row. It takes no rows of fewer than eight elements in all, which lie in another address space on Metal.
#[differentiable(
    fallback = spread_rows_by_operations,
    requires = [R <= 67108864, N * W >= 8, S >= 1],
    headers = [PARTS],
    grid = (256 * ceil_div(R, 8), 1, 1),
    threads = (256, 1, 1),
    cases = [(N = 5, R = 15, W = 7, S = 3), (N = 3, R = 11, W = 12, S = 2), (N = 2, R = 3, W = 259, S = 1)],
)]
pub fn spread_rows<T: Float, const W: usize, const S: usize>(
    x: In![T; N, W],
    #[values(0..N * S)] choices: In![i32; R],
    y: Out![T; R, W],
) {
    metal! {
        int row = int(threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup);
        if (row >= R) { return; }
        auto from = (const device part_of<T, W>*)(x + ulong(uint(choices[row] / S)) * ulong(W));
        auto to = (device part_of<T, W>*)(y + ulong(uint(row)) * ulong(W));
        // All loads come before the first store, because the compiler cannot know that a store does not change a later
        // load.
        part_of<T, W> parts[8];
        for (int first = int(thread_index_in_simdgroup); first < parts_of_row<W>(); first += 256) {
            #pragma unroll
            for (int i = 0; i < 8; ++i) {
                if (first + 32 * i < parts_of_row<W>()) { parts[i] = from[first + 32 * i]; }
            }
            #pragma unroll
            for (int i = 0; i < 8; ++i) {
                if (first + 32 * i < parts_of_row<W>()) { to[first + 32 * i] = parts[i]; }
            }
        }
    }
}

fn spread_rows_by_operations<M: Graph>(x: &Tensor<M>, choices: &Indices, per_token: usize) -> Result<Tensor<M>> {
    x.take_rows(&choices.divide(per_token as i32)?)
}

/// Sums the rows of each token: `y[n] = sum over s of values[rows[n, s]]`. Values `[R, W]` and rows `[N, S]` give `[N, W]`.
///
/// A simdgroup has a token, and asks for eight of its rows at a time. Its limits are those of [`spread_rows`].
#[differentiable(
    fallback = summed_rows_by_operations,
    requires = [N * S <= 67108864, R * W >= 8, S >= 1],
    headers = [PARTS],
    grid = (256 * ceil_div(N, 8), 1, 1),
    threads = (256, 1, 1),
    cases = [(N = 5, R = 15, W = 7, S = 3), (N = 3, R = 11, W = 12, S = 9), (N = 2, R = 3, W = 140, S = 1)],
)]
pub fn summed_rows<T: Float, const W: usize, const S: usize>(
    values: In![T; R, W],
    #[values(0..R)] rows: In![i32; N, S],
    y: Out![T; N, W],
) {
    metal! {
        int token = int(threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup);
        if (token >= N) { return; }
        constexpr int AT_ONCE = S < 8 ? S : 8;
        auto from = (const device part_of<T, W>*)(values);
        auto to = (device part_of<T, W>*)(y + ulong(uint(token)) * ulong(W));
        for (int part = int(thread_index_in_simdgroup); part < parts_of_row<W>(); part += 32) {
            floats_of_part<W> sum = floats_of_part<W>(0.0f);
            for (int first = 0; first < S; first += AT_ONCE) {
                part_of<T, W> parts[AT_ONCE];
                #pragma unroll
                for (int i = 0; i < AT_ONCE; ++i) {
                    int choice = token * S + min(first + i, S - 1);
                    parts[i] = from[ulong(uint(rows[choice])) * ulong(parts_of_row<W>()) + ulong(uint(part))];
                }
                #pragma unroll
                for (int i = 0; i < AT_ONCE; ++i) {
                    if (first + i < S) { sum += part_as_floats(parts[i]); }
                }
            }
            to[part] = rounded_part<T>(sum);
        }
    }
}

fn summed_rows_by_operations<M: Graph>(values: &Tensor<M>, rows: &Indices) -> Result<Tensor<M>> {
    values.take_rows(rows)?.sum(&[1])
}
