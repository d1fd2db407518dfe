//! The product of rows with the dense matrices of their experts, and its gradients.

use cotangent::{Graph, Result, Tensor, differentiable, stage};

use super::adapter::{Adapter, gradients_of_factor};
use super::blocks::{BLOCKS, Blocks, DENSE, PRODUCT};
use super::shares::SHARES;
use super::weight_gradient::{expert_gradients, gradients_of_matrices};

/// [`grouped_linear`](super::grouped_linear) on a GPU. `ROWS`, `COLUMNS` and `DEPTH` are the [`Blocks`] of the product itself;
/// adapters and the backward pass choose their own. `RANK` is the rank of the adapters; without them it has no effect.
///
/// One of `lora_a` and `lora_b` alone is no adapter. Inputs have eight elements or more, because smaller ones lie in
/// another address space on Metal.
#[differentiable(
    backward = grouped_product_backward,
    fallback = grouped_product_by_operations,
    stages = [expert_products],
    expensive,
    requires = [
        R <= 67108864, R * K >= 8, E * N * K >= 8, R * N >= 8, R * RANK >= 8, E * RANK * K >= 8, E * N * RANK >= 8,
        E * RANK * RANK >= 8, ROWS >= 32, ROWS % 32 == 0, COLUMNS >= 32, COLUMNS % 32 == 0, DEPTH >= 16, DEPTH % 16 == 0,
    ],
    cases = [
        (R = 3, K = 3, E = 2, N = 3, RANK = 3, ROWS = 32, COLUMNS = 32, DEPTH = 32),
        (R = 36, K = 20, E = 3, N = 33, RANK = 18, ROWS = 32, COLUMNS = 64, DEPTH = 16),
    ],
)]
pub fn grouped_product<T: Float, const RANK: usize, const ROWS: usize, const COLUMNS: usize, const DEPTH: usize>(
    x: In![T; R, K],
    weight: In![T; E, N, K],
    lora_a: Option<In![T; E, RANK, K]>,
    lora_b: Option<In![T; E, N, RANK]>,
    #[values(0..ceil_div(2 * R, E) + 1)] counts: In![i32; E],
    scale: f32,
    y: Out![T; R, N],
) {
    let adapter = Adapter::new(lora_a, lora_b, counts, scale);
    let low = adapter.as_ref().map(|adapter| adapter.rows(stages, x)).transpose()?;
    let inputs = ExpertProductsInputs {
        x,
        weight,
        low: low.as_ref(),
        factors: adapter.as_ref().map(|adapter| adapter.b),
        counts,
        rank: RANK,
        rows: ROWS,
        columns: COLUMNS,
        depth: DEPTH,
    };
    Ok(Outputs { y: expert_products(stages, inputs)? })
}

/// The gradients are d_x = d_y W_e + d_l A_e for the rows of e, and sums over these rows: d_W_e = d_y^T x, d_A_e = d_l^T x and
/// d_B_e = d_y^T l, with l = scale x A_e^T and d_l = scale d_y B_e.
#[differentiable(
    backward_of = grouped_product,
    stages = [expert_products, input_gradient, expert_gradients],
)]
pub fn grouped_product_backward<
    T: Float,
    const RANK: usize,
    const ROWS: usize,
    const COLUMNS: usize,
    const DEPTH: usize,
>(
    x: In![T; R, K],
    weight: In![T; E, N, K],
    lora_a: Option<In![T; E, RANK, K]>,
    lora_b: Option<In![T; E, N, RANK]>,
    counts: In![i32; E],
    d_y: In![T; R, N],
    scale: f32,
    d_x: Out![T; R, K],
    d_weight: Out![T; E, N, K],
    d_lora_a: Option<Out![T; E, RANK, K]>,
    d_lora_b: Option<Out![T; E, N, RANK]>,
) {
    let adapter = Adapter::new(lora_a, lora_b, counts, scale);
    let d_low = adapter.as_ref().map(|adapter| adapter.cotangent(stages, d_y)).transpose()?;
    let Blocks { rows, columns, depth } = Blocks::new(cotangent::backend()?, x.dtype(), K);
    let inputs = InputGradientInputs {
        cotangent: d_y,
        weight,
        low: d_low.as_ref(),
        factors: adapter.as_ref().map(|adapter| adapter.a),
        counts,
        rank: RANK,
        rows,
        columns,
        depth,
    };
    let d_x = if wants_d_x { Some(input_gradient(stages, inputs)?) } else { None };
    let d_weight = if wants_d_weight { Some(gradients_of_matrices(stages, x, d_y, counts)?) } else { None };
    let d_lora_a =
        if wants_d_lora_a { gradients_of_factor(stages, lora_a, (Some(x), d_low.as_ref()), counts)? } else { None };
    let d_lora_b = if wants_d_lora_b {
        let low = adapter.as_ref().map(|adapter| adapter.rows(stages, x)).transpose()?;
        gradients_of_factor(stages, lora_b, (low.as_ref(), Some(d_y)), counts)?
    } else {
        None
    };
    Ok(Outputs { d_x, d_weight, d_lora_a, d_lora_b })
}

/// `y = x W_e^T + l F_e^T` for the rows of e; there is a second product only if there are low-rank rows l and factors F. Both are
/// summed in float32 and rounded once.
#[stage(
    requires = [R <= 67108864, R * K >= 8, E * N * K >= 8, R * N >= 8, R * RANK >= 8, E * N * RANK >= 8],
    grid = (128 * ceil_div(N, COLUMNS) * (ceil_div(R, ROWS) + E), 1, 1),
    threads = (128, 1, 1),
    headers = [SHARES, BLOCKS, DENSE, PRODUCT],
    cases = [
        (R = 4, K = 3, E = 2, N = 3, RANK = 2, ROWS = 32, COLUMNS = 32, DEPTH = 32),
        (R = 37, K = 20, E = 3, N = 35, RANK = 8, ROWS = 32, COLUMNS = 64, DEPTH = 16),
        (R = 36, K = 35, E = 34, N = 33, RANK = 18, ROWS = 64, COLUMNS = 32, DEPTH = 32),
        (R = 35, K = 70, E = 2, N = 8, RANK = 32, ROWS = 32, COLUMNS = 32, DEPTH = 48),
    ],
)]
pub(super) fn expert_products<
    T: Float,
    const RANK: usize,
    const ROWS: usize,
    const COLUMNS: usize,
    const DEPTH: usize,
>(
    x: In![T; R, K],
    weight: In![T; E, N, K],
    low: Option<In![T; R, RANK]>,
    factors: Option<In![T; E, N, RANK]>,
    #[values(0..ceil_div(2 * R, E) + 1)] counts: In![i32; E],
    y: Out![T; R, N],
) {
    metal! {
        threadgroup T memory[2 * (ROWS + COLUMNS) * (DEPTH + 16 / sizeof(T))];
        constexpr int OWN_RANK = HAS_low ? (HAS_factors ? RANK : 0) : 0;
        LowRank<T, OWN_RANK> of_low = {x, weight};
        if (OWN_RANK > 0) {
            of_low.rows = low;
            of_low.factors = factors;
        }
        multiply_rows<T, false, ROWS, COLUMNS, DEPTH>(
            memory, x, Dense<T>{weight}, of_low, counts, y, E, R, K, N, int(threadgroup_position_in_grid.x),
            thread_index_in_threadgroup, int(thread_index_in_simdgroup), int(simdgroup_index_in_threadgroup));
    }
}

/// d_x = d_y W_e + d_l F_e for the rows of e, as [`expert_products`] with the matrices transposed.
#[stage(
    requires = [R <= 67108864, R * N >= 8, E * N * K >= 8, R * RANK >= 8, E * RANK * K >= 8],
    grid = (128 * ceil_div(K, COLUMNS) * (ceil_div(R, ROWS) + E), 1, 1),
    threads = (128, 1, 1),
    headers = [SHARES, BLOCKS, DENSE, PRODUCT],
    cases = [(R = 40, K = 37, E = 3, N = 20, RANK = 18, ROWS = 32, COLUMNS = 32, DEPTH = 32)],
)]
pub(super) fn input_gradient<
    T: Float,
    const RANK: usize,
    const ROWS: usize,
    const COLUMNS: usize,
    const DEPTH: usize,
>(
    cotangent: In![T; R, N],
    weight: In![T; E, N, K],
    low: Option<In![T; R, RANK]>,
    factors: Option<In![T; E, RANK, K]>,
    #[values(0..ceil_div(2 * R, E) + 1)] counts: In![i32; E],
    gradient: Out![T; R, K],
) {
    metal! {
        threadgroup T memory[2 * (ROWS * (DEPTH + 16 / sizeof(T)) + DEPTH * (COLUMNS + 16 / sizeof(T)))];
        constexpr int OWN_RANK = HAS_low ? (HAS_factors ? RANK : 0) : 0;
        LowRank<T, OWN_RANK> of_low = {cotangent, weight};
        if (OWN_RANK > 0) {
            of_low.rows = low;
            of_low.factors = factors;
        }
        multiply_rows<T, true, ROWS, COLUMNS, DEPTH>(
            memory, cotangent, Dense<T>{weight}, of_low, counts, gradient, E, R, N, K, int(threadgroup_position_in_grid.x),
            thread_index_in_threadgroup, int(thread_index_in_simdgroup), int(simdgroup_index_in_threadgroup));
    }
}

/// Computes the same products with MLX's operations, without blocks: the fallback.
fn grouped_product_by_operations<M: Graph>(inputs: GroupedProductInputs<'_, M>) -> Result<Tensor<M>> {
    let GroupedProductInputs { x, weight, lora_a, lora_b, counts, scale, .. } = inputs;
    let y = x.grouped_matmul(&weight.swap_axes(1, 2)?, counts)?;
    super::adapter::add_by_operations(y, x, (lora_a, lora_b), counts, scale)
}
