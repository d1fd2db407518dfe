//! Rows on their way to experts and back, each way in one launch.
//!
//! Rows are read where they lie, and no array as long as all rows is kept but the result. A sum is formed in float32 in
//! the order of a token's choices, and rounded once.

use cotangent::{Graph, Indices, Result, Tensor, differentiable};

/// The columns that a lane reads at once: four if rows consist of such groups, else one.
const PARTS: &str = "
template <typename T, int W> using part_of = conditional_t<W % 4 == 0, vec<T, 4>, T>;
template <int W> using floats_of_part = conditional_t<W % 4 == 0, float4, float>;
template <int W> constexpr int parts_of_row() { return W % 4 == 0 ? W / 4 : W; }
template <typename T> inline float4 part_as_floats(vec<T, 4> part) {
  return float4(float(part.x), float(part.y), float(part.z), float(part.w));
}
template <typename T> inline float part_as_floats(T part) { return float(part); }
template <typename T> inline vec<T, 4> rounded_part(float4 part) { return vec<T, 4>(T(part.x), T(part.y), T(part.z), T(part.w)); }
template <typename T> inline T rounded_part(float part) { return T(part); }
inline float sum_of_part(float4 part) { return (part.x + part.y) + (part.z + part.w); }
inline float sum_of_part(float part) { return part; }
";

/// Spreads rows to choices: `y[r] = x[c / S]` for each choice `c` of `S` a token, times `weights[c]` if there are weights. Rows `[N, W]`,
/// weights `[N, S]` and choices `[R]` give `[R, W]`, rounded once.
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
    weights: Option<In![T; N, S]>,
    #[values(0..N * S)] choices: In![i32; R],
    y: Out![T; R, W],
) {
    metal! {
        int row = int(threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup);
        if (row >= R) { return; }
        int choice = choices[row];
        float weight = 1.0f;
        if (HAS_weights) { weight = float(weights[choice]); }
        auto from = (const device part_of<T, W>*)(x + ulong(uint(choice / S)) * ulong(W));
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
                if (first + 32 * i < parts_of_row<W>()) {
                    to[first + 32 * i] = HAS_weights ? rounded_part<T>(part_as_floats(parts[i]) * weight) : parts[i];
                }
            }
        }
    }
}

fn spread_rows_by_operations<M: Graph>(
    x: &Tensor<M>,
    weights: Option<&Tensor<M>>,
    choices: &Indices,
    per_token: usize,
) -> Result<Tensor<M>> {
    let y = x.take_rows(&choices.divide(per_token as i32)?)?;
    match weights {
        Some(weights) => y.multiply(&weights.reshape(&[-1, 1])?.take_rows(choices)?),
        None => Ok(y),
    }
}

/// Sums the rows of each token: `y[n] = sum over s of values[rows[n, s]]`, each times `weights[n, s]` if there are weights. Values
/// `[R, W]`, weights and rows `[N, S]` give `[N, W]`.
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
    weights: Option<In![T; N, S]>,
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
                    if (first + i < S) {
                        float weight = 1.0f;
                        if (HAS_weights) { weight = float(weights[token * S + first + i]); }
                        sum += part_as_floats(parts[i]) * weight;
                    }
                }
            }
            to[part] = rounded_part<T>(sum);
        }
    }
}

fn summed_rows_by_operations<M: Graph>(
    values: &Tensor<M>,
    weights: Option<&Tensor<M>>,
    rows: &Indices,
) -> Result<Tensor<M>> {
    let of_tokens = values.take_rows(rows)?;
    match weights {
        Some(weights) => weights.expand_dims(1)?.matmul(&of_tokens)?.squeeze(1),
        None => of_tokens.sum(&[1]),
    }
}

/// Multiplies each token's row with each of its `S` rows of the experts: `values` `[R, W]`, `others` `[N, W]` and rows `[N, S]` give
/// `[N, S]`.
///
/// A simdgroup has a choice; those of one token are neighbours, and share its row. Its limits are those of [`spread_rows`].
#[differentiable(
    fallback = row_products_by_operations,
    requires = [N * S <= 67108864, R * W >= 8, N * W >= 8],
    headers = [PARTS],
    grid = (256 * ceil_div(N * S, 8), 1, 1),
    threads = (256, 1, 1),
    cases = [(N = 5, R = 15, W = 7, S = 3), (N = 3, R = 11, W = 12, S = 2), (N = 2, R = 3, W = 259, S = 1)],
)]
pub fn row_products<T: Float, const W: usize>(
    values: In![T; R, W],
    others: In![T; N, W],
    #[values(0..R)] rows: In![i32; N, S],
    products: Out![T; N, S],
) {
    metal! {
        int choice = int(threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup);
        if (choice >= N * S) { return; }
        auto left = (const device part_of<T, W>*)(values + ulong(uint(rows[choice])) * ulong(W));
        auto right = (const device part_of<T, W>*)(others + ulong(uint(choice / S)) * ulong(W));
        floats_of_part<W> sum = floats_of_part<W>(0.0f);
        part_of<T, W> of_row[8];
        part_of<T, W> of_token[8];
        for (int first = int(thread_index_in_simdgroup); first < parts_of_row<W>(); first += 256) {
            #pragma unroll
            for (int i = 0; i < 8; ++i) {
                if (first + 32 * i < parts_of_row<W>()) {
                    of_row[i] = left[first + 32 * i];
                    of_token[i] = right[first + 32 * i];
                }
            }
            #pragma unroll
            for (int i = 0; i < 8; ++i) {
                if (first + 32 * i < parts_of_row<W>()) { sum += part_as_floats(of_row[i]) * part_as_floats(of_token[i]); }
            }
        }
        float product = simd_sum(sum_of_part(sum));
        if (thread_index_in_simdgroup == 0u) { products[choice] = T(product); }
    }
}

fn row_products_by_operations<M: Graph>(values: &Tensor<M>, others: &Tensor<M>, rows: &Indices) -> Result<Tensor<M>> {
    values.take_rows(rows)?.matmul(&others.expand_dims(2)?)?.squeeze(2)
}
