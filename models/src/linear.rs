//! A linear layer, with or without a low-rank adapter.

use cotangent::{Graph, Mode, Parameters, Result, Stored, Tensor};

/// `y = x W^T`, plus `scale (x A) B` if it is adapted.
#[derive(Parameters)]
pub struct Linear<M: Mode> {
    /// `[outputs, inputs]`.
    pub weight: Tensor<M>,
    /// The adapter, whose tensors are named beside the weight: `lora_a`, `lora_b`.
    #[parameters(flatten)]
    pub adapter: Option<LowRank<M>>,
}

/// A low-rank adapter in mlx-lm's layout.
#[derive(Parameters)]
pub struct LowRank<M: Mode> {
    /// `[inputs, rank]`, float32.
    pub lora_a: Tensor<M>,
    /// `[rank, outputs]`, float32.
    pub lora_b: Tensor<M>,
    /// The multiplier itself, not `alpha`.
    #[config]
    pub scale: f32,
}

impl Linear<Stored> {
    /// A layer without an adapter.
    pub fn new(weight: Tensor<Stored>) -> Self {
        Linear { weight, adapter: None }
    }

    /// The same parameters once more: nothing is copied.
    pub fn share(&self) -> Self {
        let share = |adapter: &LowRank<Stored>| LowRank {
            lora_a: adapter.lora_a.clone(),
            lora_b: adapter.lora_b.clone(),
            scale: adapter.scale,
        };
        Linear { weight: self.weight.clone(), adapter: self.adapter.as_ref().map(share) }
    }

    /// The number of inputs.
    pub fn inputs(&self) -> i32 {
        self.weight.dimension(1)
    }

    /// The number of outputs.
    pub fn outputs(&self) -> i32 {
        self.weight.dimension(0)
    }
}

impl<M: Graph> Linear<M> {
    /// `[.., inputs]` to `[.., outputs]`, in the dtype of `x`.
    ///
    /// # Errors
    /// If the last axis of `x` is not as long as the weight's rows.
    pub fn forward(&self, x: &Tensor<M>) -> Result<Tensor<M>> {
        match &self.adapter {
            None => x.linear(&self.weight),
            Some(LowRank { lora_a, lora_b, scale }) => {
                cotangent_kernels::adapted_linear(x, &self.weight, lora_a, lora_b, *scale)
            }
        }
    }
}
