//! A linear layer, with or without a low-rank adapter.

use cotangent::{Dtype, Graph, Mode, Parameters, Result, Stored, Tensor};

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
        let y = x.linear(&self.weight)?;
        let Some(adapter) = &self.adapter else { return Ok(y) };
        y.add(&adapter.forward(x)?)
    }
}

impl<M: Graph> LowRank<M> {
    /// Adapters are float32; the products run in the dtype of `x`.
    fn forward(&self, x: &Tensor<M>) -> Result<Tensor<M>> {
        let dtype: Dtype = x.dtype();
        let down = x.matmul_rows(&self.lora_a.cast(dtype)?)?;
        down.multiply(self.scale)?.matmul_rows(&self.lora_b.cast(dtype)?)
    }
}
