//! The first hidden state: embedded patches and their positions.

use cotangent::{Dtype, Graph, Mode, Parameters, Planned, Result, Storage, Tensor};

use crate::config::VisionConfig;

use super::input::VisionInput;

/// Names the parameters of the projection `proj.*`.
#[derive(Parameters)]
pub struct PatchEmbedding<M: Mode> {
    /// The projection.
    pub proj: PatchProjection<M>,
}

/// A convolution whose stride is its kernel: a linear layer over the pixels of a patch.
#[derive(Parameters)]
pub struct PatchProjection<M: Mode> {
    /// `[hidden, 3, frames, patch, patch]`.
    pub weight: Tensor<M>,
    /// `[hidden]`.
    pub bias: Tensor<M>,
}

/// Positions that were learned on a square.
#[derive(Parameters)]
pub struct PositionTable<M: Mode> {
    /// `[side * side, hidden]`, row by row.
    pub weight: Tensor<M>,
}

impl PatchEmbedding<Planned> {
    /// The embedding that `config` describes, held in `dtype`.
    pub fn planned(config: &VisionConfig, dtype: Dtype) -> Self {
        let (width, patch) = (config.hidden_size, config.patch_size);
        let shape = [width, 3, config.temporal_patch_size, patch, patch];
        PatchEmbedding {
            proj: PatchProjection {
                weight: Tensor::planned(&shape, dtype).stored_as(Storage::PixelsLast),
                bias: Tensor::planned(&[width], dtype),
            },
        }
    }
}

impl PositionTable<Planned> {
    /// The table that `config` describes, in float32: it is read in fractions.
    pub fn planned(config: &VisionConfig) -> Self {
        let rows = config.positions_per_side * config.positions_per_side;
        PositionTable { weight: Tensor::planned(&[rows, config.hidden_size], Dtype::F32) }
    }
}

impl<M: Graph> PatchEmbedding<M> {
    /// The patches of `input`: `[N, hidden]`.
    ///
    /// # Errors
    /// If they have another length than the projection takes.
    pub fn forward(&self, input: &VisionInput) -> Result<Tensor<M>> {
        let PatchProjection { weight, bias } = &self.proj;
        let patches = input.patches().to_tensor::<M>().cast(weight.dtype())?;
        patches.linear(&weight.reshape(&[weight.dimension(0), -1])?)?.add(bias)
    }
}

impl<M: Graph> PositionTable<M> {
    /// The positions of the patches of `input`: `[N, hidden]`, each a mean of the four next to it in the table.
    ///
    /// # Errors
    /// If the table has another size than the positions were made for.
    pub fn forward(&self, input: &VisionInput) -> Result<Tensor<M>> {
        let (corners, weights) = input.corners();
        self.weight.take_rows(corners)?.multiply(&weights.to_tensor::<M>())?.sum(&[1])
    }
}
