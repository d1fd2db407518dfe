//! Rows of tokens as whole chunks, and heads as whole tiles.

use cotangent::{Dtype, Infer, Result, Tensor};

use super::geometry::Geometry;

/// Rows and columns of a tile.
const TILE: i32 = 16;

/// The padding behind tokens and channels. Zeros change nothing: a log gate and a beta of zero do not change the state,
/// and channels of zeros add nothing to products.
#[derive(Debug, Clone, Copy)]
pub(super) struct Padding {
    geometry: Geometry,
    /// Tokens of a chunk.
    chunk: i32,
}

impl Padding {
    /// The padding of launches with chunks of `chunk` tokens.
    pub(super) fn new(geometry: Geometry, chunk: i32) -> Self {
        Padding { geometry, chunk }
    }

    /// Rows of tokens, `[B, T, ..]`.
    pub(super) fn tokens(&self, rows: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        padded(rows, 1, self.chunk)
    }

    /// Heads of tokens, `[B, T, H, D]`.
    pub(super) fn heads(&self, heads: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        padded(&self.tokens(heads)?, 3, TILE)
    }

    /// States, `[B, Hv, Dv, Dk]`.
    pub(super) fn states(&self, states: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        padded(&padded(states, 2, TILE)?, 3, TILE)
    }

    /// The inverse of [`tokens`](Self::tokens).
    pub(super) fn without_tokens(&self, rows: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        shortened(rows, 1, self.geometry.time)
    }

    /// The inverse of [`heads`](Self::heads), of keys or of values.
    pub(super) fn without_heads(&self, heads: &Tensor<Infer>, dim: i32) -> Result<Tensor<Infer>> {
        self.without_tokens(&shortened(heads, 3, dim)?)
    }

    /// Gradients of keys, one for each value head, without what was put behind: their sums over the value heads of each key
    /// head.
    pub(super) fn of_key_heads(&self, gradient: &Tensor<Infer>, dtype: Dtype) -> Result<Tensor<Infer>> {
        let Geometry { batch, time, key_heads, key_dim, .. } = self.geometry;
        let gradient = self.without_heads(gradient, key_dim)?;
        if self.geometry.group() == 1 {
            return gradient.cast(dtype);
        }
        gradient.reshape(&[batch, time, key_heads, self.geometry.group(), key_dim])?.sum(&[3])?.cast(dtype)
    }

    /// The inverse of [`states`](Self::states).
    pub(super) fn without_states(&self, states: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        shortened(&shortened(states, 2, self.geometry.value_dim)?, 3, self.geometry.key_dim)
    }
}

fn padded(tensor: &Tensor<Infer>, axis: i32, multiple: i32) -> Result<Tensor<Infer>> {
    let missing = (multiple - tensor.dimension(axis) % multiple) % multiple;
    if missing == 0 { Ok(tensor.clone()) } else { tensor.pad(axis, 0, missing) }
}

fn shortened(tensor: &Tensor<Infer>, axis: i32, length: i32) -> Result<Tensor<Infer>> {
    if tensor.dimension(axis) == length { Ok(tensor.clone()) } else { tensor.slice(axis, 0, length) }
}
