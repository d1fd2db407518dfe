//! The facts about a parameter that are known before its values are loaded.

use crate::dtype::Dtype;
use crate::mode::Planned;
use crate::parameters::{Parameters, Path};
use crate::tensor::Tensor;

/// The shape and the dtype of a parameter, and how files store it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The dtype in which the model holds it.
    pub dtype: Dtype,
    /// The way in which MLX's checkpoints store the parameter.
    pub storage: Storage,
}

/// The way in which a checkpoint in MLX's layout stores a parameter. A checkpoint in Hugging Face's layout stores every
/// parameter as the model holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Storage {
    /// Stored as the model holds it.
    Plain,
    /// The scale `w` of a zero-centred norm, stored as `1 + w`.
    ZeroCentred,
    /// The filters `[channels, 1, taps]` of a convolution, stored as `[channels, taps, 1]`.
    ChannelsLast,
    /// The filters `[channels, 3, frames, rows, columns]` over patches of pictures, stored as
    /// `[channels, frames, rows, columns, 3]`. Some conversions leave them as they are, so the shape decides.
    PixelsLast,
}

impl Plan {
    /// The plans of all leaves of a tree, frozen ones included, by name, in the order of the tree.
    pub fn all(tree: &impl Parameters<Mode = Planned>) -> Vec<(String, Plan)> {
        let mut plans = Vec::new();
        tree.leaves(&mut Path::root(), &mut |path, leaf| plans.push((path.to_string(), leaf.tensor.plan().clone())));
        plans
    }

    /// The number of elements; the largest number there is if it is larger.
    pub fn size(&self) -> usize {
        self.shape.iter().fold(1, |size, extent| size.saturating_mul(*extent))
    }
}

impl Tensor<Planned> {
    /// A parameter of extents `shape` that the model holds in `dtype`, stored alike by all checkpoints.
    pub fn planned(shape: &[usize], dtype: Dtype) -> Self {
        Self::from_plan(Plan { shape: shape.to_vec(), dtype, storage: Storage::Plain })
    }

    /// Returns the same parameter with this storage in MLX's checkpoints.
    #[must_use]
    pub fn stored_as(self, storage: Storage) -> Self {
        Self::from_plan(Plan { storage, ..self.plan().clone() })
    }
}
