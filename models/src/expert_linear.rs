//! A linear layer for each expert, with or without low-rank adapters.

use cotangent::{Dtype, Graph, Mode, Parameters, Planned, Result, Stored, Tensor};
use cotangent_kernels::ExpertRows;

use crate::weight::Weight;

/// `y = x W_e^T` of each row with the weight of its expert, plus `scale (x A_e^T) B_e^T` if it is adapted.
#[derive(Parameters)]
pub struct ExpertLinear<M: Mode> {
    /// `[experts, outputs, inputs]`.
    #[parameters(flatten)]
    pub weight: Weight<M>,
    /// The adapters, whose tensors are named beside the weight: `lora_a`, `lora_b`.
    #[parameters(flatten)]
    pub adapter: Option<ExpertLowRank<M>>,
}

/// A low-rank adapter for each expert, in mlx-lm's layout, which is not that of other layers.
#[derive(Parameters)]
pub struct ExpertLowRank<M: Mode> {
    /// `[experts, rank, inputs]`, float32.
    pub lora_a: Tensor<M>,
    /// `[experts, outputs, rank]`, float32.
    pub lora_b: Tensor<M>,
    /// The multiplier itself, not `alpha`.
    #[config]
    pub scale: f32,
}

impl ExpertLinear<Planned> {
    /// Layers without adapters whose weights are held in `dtype`.
    pub fn planned(experts: usize, outputs: usize, inputs: usize, dtype: Dtype) -> Self {
        ExpertLinear { weight: Weight::planned_stack(experts, outputs, inputs, dtype), adapter: None }
    }
}

impl ExpertLinear<Stored> {
    /// The number of experts.
    pub fn experts(&self) -> i32 {
        self.weight.matrices().unwrap_or_default()
    }
}

impl<M: Graph> ExpertLinear<M> {
    /// `[rows, inputs]`, in the order of their experts, to `[rows, outputs]`, in the dtype of `x`.
    ///
    /// # Errors
    /// If the shapes do not fit, or there is no such expert.
    pub fn forward(&self, x: &Tensor<M>, rows: &ExpertRows) -> Result<Tensor<M>> {
        let adapter = self.adapter.as_ref().map(|ExpertLowRank { lora_a, lora_b, scale }| ([lora_a, lora_b], *scale));
        self.weight.product_of_experts(x, adapter, rows)
    }
}
