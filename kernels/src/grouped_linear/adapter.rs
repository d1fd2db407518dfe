//! Low-rank adapters of many experts, beside the products with their matrices.

use cotangent::kernel::Stages;
use cotangent::{Graph, Indices, Infer, Result, Tensor};

use super::blocks::Blocks;
use super::product::{ExpertProductsInputs, InputGradientInputs, expert_products, input_gradient};
use super::weight_gradient::gradients_of_matrices;

/// The adapters `scale (x A_e^T) B_e^T` of rows sorted by expert: `A` `[E, rank, K]`, `B` `[E, N, rank]`.
///
/// `x A^T` is no residual, because a residual can only be computed together with the result of its call, and a block that is
/// computed again may not need that result.
pub(super) struct Adapter<'a> {
    pub(super) a: &'a Tensor<Infer>,
    pub(super) b: &'a Tensor<Infer>,
    counts: &'a Indices,
    scale: f32,
}

impl<'a> Adapter<'a> {
    /// Returns the adapters, unless one of their factors is missing.
    pub(super) fn new(
        a: Option<&'a Tensor<Infer>>,
        b: Option<&'a Tensor<Infer>>,
        counts: &'a Indices,
        scale: f32,
    ) -> Option<Self> {
        let (a, b) = a.zip(b)?;
        Some(Adapter { a, b, counts, scale })
    }

    /// Returns l = scale x A^T, `[R, rank]`. The list of `stages` must have `expert_products`.
    pub(super) fn rows(&self, stages: &Stages, x: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        let rank = self.a.dimension(1);
        let Blocks { rows, columns, depth } = Blocks::new(cotangent::backend()?, x.dtype(), rank);
        let Adapter { a: weight, counts, .. } = *self;
        let (low, factors, rank) = (None, None, rank as usize);
        let inputs = ExpertProductsInputs { x, weight, low, factors, counts, rank, rows, columns, depth };
        expert_products(stages, inputs)?.multiply(self.scale)
    }

    /// Returns d_l = scale d_y B, `[R, rank]`. The list of `stages` must have `input_gradient`.
    pub(super) fn cotangent(&self, stages: &Stages, cotangent: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        let rank = self.a.dimension(1);
        let Blocks { rows, columns, depth } = Blocks::new(cotangent::backend()?, cotangent.dtype(), rank);
        let Adapter { b: weight, counts, .. } = *self;
        let (low, factors, rank) = (None, None, rank as usize);
        let inputs = InputGradientInputs { cotangent, weight, low, factors, counts, rank, rows, columns, depth };
        input_gradient(stages, inputs)?.multiply(self.scale)
    }
}

/// Returns the gradient of a factor, from the rows `x` that it multiplies and the cotangent of the product. If the other factor is
/// missing, one of these two is missing too, and the gradient is 0. The list of `stages` must have `expert_gradients`.
pub(super) fn gradients_of_factor(
    stages: &Stages,
    factor: Option<&Tensor<Infer>>,
    (x, cotangent): (Option<&Tensor<Infer>>, Option<&Tensor<Infer>>),
    counts: &Indices,
) -> Result<Option<Tensor<Infer>>> {
    match x.zip(cotangent) {
        Some((x, cotangent)) => gradients_of_matrices(stages, x, cotangent, counts).map(Some),
        None => factor.map(|alone| alone.multiply(0.0)).transpose(),
    }
}

/// Adds the product with the adapters to `y`, the product with the matrices, by MLX's operations.
pub(super) fn add_by_operations<M: Graph>(
    y: Tensor<M>,
    x: &Tensor<M>,
    factors: (Option<&Tensor<M>>, Option<&Tensor<M>>),
    counts: &Indices,
    scale: f32,
) -> Result<Tensor<M>> {
    let (Some(a), Some(b)) = factors else { return Ok(y) };
    let low = x.grouped_matmul(&a.swap_axes(1, 2)?, counts)?.multiply(scale)?;
    y.add(&low.grouped_matmul(&b.swap_axes(1, 2)?, counts)?)
}
