//! The matrix of a linear layer or an embedding, in floats or quantized.

use cotangent::{
    CodeFormat, Dtype, Frozen, Graph, Held, Indices, Infer, Mode, Packed, Parameters, Planned, Result, Stored, Tensor,
    Train,
};
use cotangent_kernels::{ExpertRows, Labels};

use crate::linear::LowRank;

/// A matrix `[outputs, inputs]`, or a stack of them for experts, with one more axis in front: numbers, or packed codes of few
/// bits.
#[derive(Parameters)]
pub enum Weight<M: Mode> {
    /// Floats, which may train.
    Dense(Dense<M>),
    /// Codes as MLX packs them, which never train.
    Quantized(Quantized<M>),
}

/// A matrix of floats.
#[derive(Parameters)]
pub struct Dense<M: Mode> {
    /// `[outputs, inputs]`.
    pub weight: Tensor<M>,
}

/// A matrix as MLX quantizes it, with a scale for each group of inputs.
#[derive(Parameters)]
pub struct Quantized<M: Mode> {
    /// Words of 32 bits, `[outputs, inputs * bits / 32]`; the first code is in the lowest bits.
    pub weight: Frozen<M>,
    /// `[outputs, inputs / group_size]`: floats, or floats of 8 bits in the formats of floats.
    pub scales: Frozen<M>,
    /// `[outputs, inputs / group_size]`, float; of `affine` codes alone.
    pub biases: Option<Frozen<M>>,
    /// The format of the codes.
    #[config]
    pub format: CodeFormat,
    /// The dtype of the model.
    #[config]
    pub dtype: Dtype,
}

impl Weight<Planned> {
    /// A dense matrix that the model holds in `dtype`.
    pub fn planned(outputs: usize, inputs: usize, dtype: Dtype) -> Self {
        Weight::Dense(Dense { weight: Tensor::planned(&[outputs, inputs], dtype) })
    }

    /// Dense matrices of one size that the model holds in `dtype`.
    pub fn planned_stack(matrices: usize, outputs: usize, inputs: usize, dtype: Dtype) -> Self {
        Weight::Dense(Dense { weight: Tensor::planned(&[matrices, outputs, inputs], dtype) })
    }

    /// Returns the same matrix or stack as codes of `format`.
    #[must_use]
    pub fn quantized(&self, format: CodeFormat) -> Self {
        let Weight::Dense(Dense { weight }) = self else { return self.clone() };
        let plan = weight.plan();
        let [outer @ .., inputs] = plan.shape.as_slice() else { return self.clone() };
        let shape = |columns: usize| [outer, &[columns]].concat();
        let per_group =
            || Frozen::new(Tensor::planned(&shape(inputs / format.group_size()), format.dtype_of_scales(plan.dtype)));
        Weight::Quantized(Quantized {
            weight: Frozen::new(Tensor::planned(&shape(format.words(*inputs)), Dtype::U32)),
            scales: per_group(),
            biases: format.has_biases().then(per_group),
            format,
            dtype: plan.dtype,
        })
    }
}

impl<M: Held> Quantized<M> {
    /// Returns its parts as one matrix.
    ///
    /// # Errors
    /// If they do not fit each other and the format.
    pub fn packed(&self) -> Result<Packed> {
        Packed::new(&self.weight, &self.scales, self.biases.as_ref(), self.format, self.dtype)
    }
}

impl Weight<Stored> {
    /// The number of inputs.
    pub fn inputs(&self) -> i32 {
        match self {
            Weight::Dense(dense) => dense.weight.dimension(-1),
            Weight::Quantized(codes) => codes.scales.tensor().dimension(-1) * codes.format.group_size() as i32,
        }
    }

    /// The number of outputs.
    pub fn outputs(&self) -> i32 {
        self.by_row().dimension(-2)
    }

    /// The number of matrices, if it is a stack of them.
    pub fn matrices(&self) -> Option<i32> {
        let tensor = self.by_row();
        (tensor.rank() == 3).then(|| tensor.dimension(0))
    }

    /// A tensor with the axes of the weight but the last.
    fn by_row(&self) -> &Tensor<Stored> {
        match self {
            Weight::Dense(dense) => &dense.weight,
            Weight::Quantized(codes) => codes.scales.tensor(),
        }
    }
}

impl<M: Held> Weight<M> {
    /// The dtype in which the model computes with it.
    pub fn dtype(&self) -> Dtype {
        match self {
            Weight::Dense(dense) => dense.weight.dtype(),
            Weight::Quantized(codes) => codes.dtype,
        }
    }
}

impl<M: Mode> Clone for Weight<M> {
    /// Shares the memory.
    fn clone(&self) -> Self {
        match self {
            Weight::Dense(Dense { weight }) => Weight::Dense(Dense { weight: weight.clone() }),
            Weight::Quantized(Quantized { weight, scales, biases, format, dtype }) => Weight::Quantized(Quantized {
                weight: weight.clone(),
                scales: scales.clone(),
                biases: biases.clone(),
                format: *format,
                dtype: *dtype,
            }),
        }
    }
}

impl<M: Graph> Weight<M> {
    /// `x W^T`, plus `scale (x A) B` if there is an adapter: `[.., inputs]` to `[.., outputs]`, in the dtype of `x`.
    ///
    /// # Errors
    /// If the last axis of `x` is not as long as the weight's rows.
    pub fn product(&self, x: &Tensor<M>, adapter: Option<&LowRank<M>>) -> Result<Tensor<M>> {
        match (self, adapter) {
            // A matrix that trains may have a wider dtype than its input.
            (Weight::Dense(dense), None) => x.linear(&dense.weight.cast(x.dtype())?),
            (Weight::Dense(dense), Some(LowRank { lora_a, lora_b, scale })) => {
                cotangent_kernels::adapted_linear(x, &dense.weight.cast(x.dtype())?, lora_a, lora_b, *scale)
            }
            (Weight::Quantized(codes), adapter) => {
                cotangent_kernels::packed_linear(x, &codes.packed()?, adapter.map(LowRank::parts))
            }
        }
    }

    /// Returns `x W_e^T` for each row `[rows, inputs]` and the matrix of its expert: `[rows, outputs]`, in the dtype of `x`. Adapters
    /// `A` `[experts, rank, inputs]` and `B` `[experts, outputs, rank]` add `scale (x A_e^T) B_e^T`.
    ///
    /// # Errors
    /// If it is no stack, lengths do not fit, or there is no such expert.
    pub fn product_of_experts(
        &self,
        x: &Tensor<M>,
        adapter: Option<([&Tensor<M>; 2], f32)>,
        rows: &ExpertRows,
    ) -> Result<Tensor<M>> {
        match self {
            Weight::Dense(dense) => {
                cotangent_kernels::grouped_linear(x, &dense.weight.cast(x.dtype())?, adapter, rows.counts())
            }
            Weight::Quantized(codes) => {
                cotangent_kernels::grouped_packed_linear(x, &codes.packed()?, adapter, rows.counts())
            }
        }
    }

    /// The rows that `indices` name, `[..shape]` to `[..shape, inputs]`, in the dtype of the model. The rows of a stack are
    /// counted through.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`](cotangent::Error::IndexOutOfRange) if there is no such row.
    pub fn take_rows(&self, indices: &Indices) -> Result<Tensor<M>> {
        match self {
            Weight::Dense(Dense { weight }) if weight.rank() == 2 => weight.take_rows(indices),
            Weight::Dense(Dense { weight }) => weight.reshape(&[-1, weight.dimension(-1)])?.take_rows(indices),
            Weight::Quantized(codes) => {
                cotangent_kernels::decoded_matrix(&codes.packed()?.flat()?.take_rows(indices)?, codes.dtype)
            }
        }
    }

    /// The cross-entropy of `rows` `[N, inputs]` with this matrix as the head, as [`cotangent_kernels::cross_entropy()`].
    ///
    /// # Errors
    /// If the shapes do not fit, or a label is not in the vocabulary.
    pub fn cross_entropy(
        &self,
        rows: &Tensor<M>,
        adapter: Option<&LowRank<M>>,
        labels: &Labels,
        scale: f32,
    ) -> Result<Tensor<M>> {
        match (self, adapter.map(LowRank::parts)) {
            (Weight::Dense(dense), None) => cotangent_kernels::cross_entropy(rows, &dense.weight, labels, scale),
            (Weight::Dense(dense), Some((factors, adapter_scale))) => {
                cotangent_kernels::cross_entropy_adapted(rows, &dense.weight, factors, adapter_scale, labels, scale)
            }
            (Weight::Quantized(codes), adapter) => {
                cotangent_kernels::cross_entropy_packed(rows, &codes.packed()?, adapter, labels, scale)
            }
        }
    }
}

impl Weight<Train> {
    /// Returns the same matrix without a gradient, for this `reason`.
    #[must_use]
    pub fn detached(&self, reason: &'static str) -> Self {
        match self {
            Weight::Dense(dense) => Weight::Dense(Dense { weight: dense.weight.detach(reason).to_tensor() }),
            // Codes have no gradient.
            Weight::Quantized(_) => self.clone(),
        }
    }
}

impl Weight<Infer> {
    /// The loss of each of `rows` `[N, inputs]`, as [`cotangent_kernels::token_losses`].
    ///
    /// # Errors
    /// If the shapes do not fit, or a label is not in the vocabulary.
    pub fn token_losses(&self, rows: &Tensor<Infer>, labels: &Labels) -> Result<Tensor<Infer>> {
        match self {
            Weight::Dense(dense) => cotangent_kernels::token_losses(rows, &dense.weight, labels),
            Weight::Quantized(codes) => cotangent_kernels::token_losses_packed(rows, &codes.packed()?, labels),
        }
    }
}
