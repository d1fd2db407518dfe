//! The product of rows with the dense matrices of their experts, and its gradients.

use cotangent::{Graph, Indices, Result, Tensor, differentiable, stage};

use super::blocks::{BLOCKS, Blocks, DENSE, PRODUCT};
use super::shares::SHARES;
use super::weight_gradient::expert_gradients;

/// [`grouped_linear`](super::grouped_linear) on a GPU. `ROWS`, `COLUMNS` and `DEPTH` are the [`Blocks`] of the forward pass;
/// the backward pass chooses its own.
///
/// It takes no inputs of fewer than eight elements, which lie in another address space on Metal.
#[differentiable(
    backward = grouped_product_backward,
    fallback = grouped_product_by_operations,
    expensive,
    requires = [
        R <= 67108864, R * K >= 8, E * N * K >= 8, R * N >= 8, ROWS >= 32, ROWS % 32 == 0, COLUMNS >= 32, COLUMNS % 32 == 0,
        DEPTH >= 16, DEPTH % 16 == 0,
    ],
    grid = (128 * ceil_div(N, COLUMNS) * (ceil_div(R, ROWS) + E), 1, 1),
    threads = (128, 1, 1),
    headers = [SHARES, BLOCKS, DENSE, PRODUCT],
    cases = [
        (R = 3, K = 3, E = 2, N = 3, ROWS = 32, COLUMNS = 32, DEPTH = 32),
        (R = 37, K = 20, E = 3, N = 35, ROWS = 32, COLUMNS = 64, DEPTH = 16),
        (R = 36, K = 35, E = 34, N = 33, ROWS = 64, COLUMNS = 32, DEPTH = 32),
    ],
)]
pub fn grouped_product<T: Float, const ROWS: usize, const COLUMNS: usize, const DEPTH: usize>(
    x: In![T; R, K],
    weight: In![T; E, N, K],
    #[values(0..ceil_div(2 * R, E) + 1)] counts: In![i32; E],
    y: Out![T; R, N],
) {
    metal! {
        threadgroup T memory[2 * (ROWS + COLUMNS) * (DEPTH + 16 / sizeof(T))];
        multiply_rows<T, false, ROWS, COLUMNS, DEPTH>(
            memory, x, Dense<T>{weight}, counts, y, E, R, K, N, int(threadgroup_position_in_grid.x), thread_index_in_threadgroup,
            int(thread_index_in_simdgroup), int(simdgroup_index_in_threadgroup));
    }
}

/// d_x = d_y W_e for the rows of e; d_W_e = the sum of d_y^T x over the rows of e.
#[differentiable(backward_of = grouped_product, stages = [input_gradient, expert_gradients])]
pub fn grouped_product_backward<T: Float, const ROWS: usize, const COLUMNS: usize, const DEPTH: usize>(
    x: In![T; R, K],
    weight: In![T; E, N, K],
    counts: In![i32; E],
    d_y: In![T; R, N],
    d_x: Out![T; R, K],
    d_weight: Out![T; E, N, K],
) {
    let backend = cotangent::backend()?;
    let Blocks { rows, columns, depth } = Blocks::new(backend, x.dtype(), K);
    let d_x = if wants_d_x { Some(input_gradient(stages, d_y, weight, counts, rows, columns, depth)?) } else { None };
    let Blocks { columns: rows, .. } = Blocks::new(backend, x.dtype(), N);
    let d_weight =
        if wants_d_weight { Some(expert_gradients(stages, x, d_y, counts, rows, columns, depth)?) } else { None };
    Ok(Outputs { d_x, d_weight })
}

/// d_x, as the product with the matrices transposed.
#[stage(
    requires = [R <= 67108864, R * N >= 8, E * N * K >= 8],
    grid = (128 * ceil_div(K, COLUMNS) * (ceil_div(R, ROWS) + E), 1, 1),
    threads = (128, 1, 1),
    headers = [SHARES, BLOCKS, DENSE, PRODUCT],
    cases = [(R = 40, K = 37, E = 3, N = 20, ROWS = 32, COLUMNS = 32, DEPTH = 32)],
)]
pub(super) fn input_gradient<T: Float, const ROWS: usize, const COLUMNS: usize, const DEPTH: usize>(
    cotangent: In![T; R, N],
    weight: In![T; E, N, K],
    #[values(0..ceil_div(2 * R, E) + 1)] counts: In![i32; E],
    gradient: Out![T; R, K],
) {
    metal! {
        threadgroup T memory[2 * (ROWS * (DEPTH + 16 / sizeof(T)) + DEPTH * (COLUMNS + 16 / sizeof(T)))];
        multiply_rows<T, true, ROWS, COLUMNS, DEPTH>(
            memory, cotangent, Dense<T>{weight}, counts, gradient, E, R, N, K, int(threadgroup_position_in_grid.x),
            thread_index_in_threadgroup, int(thread_index_in_simdgroup), int(simdgroup_index_in_threadgroup));
    }
}

/// Computes the same products with MLX's operations, without blocks: the fallback.
fn grouped_product_by_operations<M: Graph>(
    x: &Tensor<M>,
    weight: &Tensor<M>,
    counts: &Indices,
    _rows: usize,
    _columns: usize,
    _depth: usize,
) -> Result<Tensor<M>> {
    x.grouped_matmul(&weight.swap_axes(1, 2)?, counts)
}
