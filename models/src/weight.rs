//! How the matrix of a linear layer is held.

use cotangent::{Frozen, Graph, Mode, Parameters, Result, Stored, Tensor};

/// A matrix `[outputs, inputs]`: numbers, or packed codes of few bits.
#[derive(Parameters)]
pub enum Weight<M: Mode> {
    /// Floats, which may train.
    Dense(Dense<M>),
    /// Codes of MLX's `affine` quantization, which never train.
    Affine(Affine<M>),
}

/// A matrix of floats.
#[derive(Parameters)]
pub struct Dense<M: Mode> {
    /// `[outputs, inputs]`.
    pub weight: Tensor<M>,
}

/// A matrix as MLX quantizes it: `code * scale + bias`, with a scale and a bias for each group of inputs.
#[derive(Parameters)]
pub struct Affine<M: Mode> {
    /// Words of 32 bits, `[outputs, inputs * bits / 32]`; the first code is in the lowest bits.
    pub weight: Frozen<M>,
    /// `[outputs, inputs / group_size]`, float.
    pub scales: Frozen<M>,
    /// `[outputs, inputs / group_size]`, float.
    pub biases: Frozen<M>,
    /// Inputs that share a scale: 32, 64 or 128.
    #[config]
    pub group_size: i32,
    /// Bits of a code: 2, 3, 4, 5, 6 or 8.
    #[config]
    pub bits: i32,
}

impl Weight<Stored> {
    /// The number of inputs.
    pub fn inputs(&self) -> i32 {
        match self {
            Weight::Dense(dense) => dense.weight.dimension(1),
            Weight::Affine(affine) => affine.scales.tensor().dimension(1) * affine.group_size,
        }
    }

    /// The number of outputs.
    pub fn outputs(&self) -> i32 {
        match self {
            Weight::Dense(dense) => dense.weight.dimension(0),
            Weight::Affine(affine) => affine.scales.tensor().dimension(0),
        }
    }
}

impl<M: Mode> Clone for Weight<M> {
    /// Shares the memory.
    fn clone(&self) -> Self {
        match self {
            Weight::Dense(Dense { weight }) => Weight::Dense(Dense { weight: weight.clone() }),
            Weight::Affine(Affine { weight, scales, biases, group_size, bits }) => Weight::Affine(Affine {
                weight: weight.clone(),
                scales: scales.clone(),
                biases: biases.clone(),
                group_size: *group_size,
                bits: *bits,
            }),
        }
    }
}

impl<M: Graph> Weight<M> {
    /// `x W^T`: `[.., inputs]` to `[.., outputs]`, in the dtype of `x`.
    ///
    /// # Errors
    /// If the last axis of `x` is not as long as the weight's rows.
    pub fn product(&self, x: &Tensor<M>) -> Result<Tensor<M>> {
        match self {
            Weight::Dense(dense) => x.linear(&dense.weight),
            Weight::Affine(Affine { weight, scales, biases, group_size, bits }) => {
                let [scales, biases] = [scales, biases].map(|part| part.constant()?.cast(x.dtype()));
                x.quantised_linear(&weight.codes()?, &scales?.to_tensor(), &biases?.to_tensor(), *group_size, *bits)
            }
        }
    }

    /// The matrix itself, `[outputs, inputs]`: computed from its codes if it is quantized.
    ///
    /// # Errors
    /// If codes, scales and biases do not fit each other.
    pub fn dense(&self) -> Result<Tensor<M>> {
        match self {
            Weight::Dense(dense) => Ok(dense.weight.clone()),
            Weight::Affine(Affine { weight, scales, biases, group_size, bits }) => {
                let (scales, biases) = (scales.constant()?.to_tensor(), biases.constant()?.to_tensor());
                scales.dequantised(&weight.codes()?, &biases, *group_size, *bits)
            }
        }
    }
}
