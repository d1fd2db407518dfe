//! A linear layer, with or without a low-rank adapter.

use cotangent::{Dtype, Graph, Mode, Parameters, Planned, Result, Stored, Tensor};

use crate::weight::{Dense, Weight};

/// `y = x W^T`, plus `scale (x A) B` if it is adapted.
#[derive(Parameters)]
pub struct Linear<M: Mode> {
    /// `[outputs, inputs]`.
    #[parameters(flatten)]
    pub weight: Weight<M>,
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

impl<M: Mode> LowRank<M> {
    /// Returns the adapter's two matrices and the multiplier.
    pub(crate) fn parts(&self) -> ([&Tensor<M>; 2], f32) {
        ([&self.lora_a, &self.lora_b], self.scale)
    }
}

impl Linear<Planned> {
    /// A layer without an adapter whose weight is held in `dtype`.
    pub fn planned(outputs: usize, inputs: usize, dtype: Dtype) -> Self {
        Linear { weight: Weight::planned(outputs, inputs, dtype), adapter: None }
    }
}

impl Linear<Stored> {
    /// A layer without an adapter.
    pub fn new(weight: Tensor<Stored>) -> Self {
        Linear { weight: Weight::Dense(Dense { weight }), adapter: None }
    }

    /// A second handle on the same parameters: nothing is copied.
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
        self.weight.inputs()
    }

    /// The number of outputs.
    pub fn outputs(&self) -> i32 {
        self.weight.outputs()
    }
}

impl<M: Graph> Linear<M> {
    /// `[.., inputs]` to `[.., outputs]`, in the dtype of `x`.
    ///
    /// # Errors
    /// If the last axis of `x` is not as long as the weight's rows.
    pub fn forward(&self, x: &Tensor<M>) -> Result<Tensor<M>> {
        self.weight.product(x, self.adapter.as_ref())
    }
}

/// A linear layer whose outputs are moved: `y = x W^T + bias`, plus the adapter's part.
#[derive(Parameters)]
pub struct BiasedLinear<M: Mode> {
    /// The matrix and its adapter, whose tensors are named beside the bias.
    #[parameters(flatten)]
    pub linear: Linear<M>,
    /// `[outputs]`.
    pub bias: Tensor<M>,
}

impl BiasedLinear<Planned> {
    /// A layer without an adapter, held in `dtype`.
    pub fn planned(outputs: usize, inputs: usize, dtype: Dtype) -> Self {
        BiasedLinear { linear: Linear::planned(outputs, inputs, dtype), bias: Tensor::planned(&[outputs], dtype) }
    }
}

impl<M: Graph> BiasedLinear<M> {
    /// `[.., inputs]` to `[.., outputs]`, in the dtype of `x`.
    ///
    /// # Errors
    /// If the last axis of `x` is not as long as the weight's rows.
    pub fn forward(&self, x: &Tensor<M>) -> Result<Tensor<M>> {
        self.linear.forward(x)?.add(&self.bias.cast(x.dtype())?)
    }
}
