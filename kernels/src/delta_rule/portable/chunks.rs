//! Cuts rows of tokens into chunks, and joins chunks again.

use cotangent::{Dtype, Infer, Result, Tensor};

use crate::delta_rule::geometry::{Geometry, SHORTEST_CHUNK};

/// The cut of `[B, T, heads, D]` into `[N, B, Hk, group, C, D]`: N chunks of C tokens. Key heads have a group of 1, which
/// broadcasts over the value heads that read them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunks {
    pub(super) geometry: Geometry,
    /// Tokens in a chunk.
    pub(super) length: i32,
    /// Chunks in a row of tokens.
    pub(super) count: i32,
}

impl Chunks {
    pub(super) fn new(geometry: Geometry) -> Self {
        // Short rows get short chunks, which would otherwise be mostly padding.
        let mut length = SHORTEST_CHUNK;
        while length < geometry.time.min(geometry.chunk) {
            length *= 2;
        }
        Chunks { geometry, length, count: (geometry.time + length - 1) / length }
    }

    /// Cuts `[B, T, Hk * group, D]` into chunks, in float32. Missing tokens at the end become zeros: a log gate and a
    /// beta of zero do not change the state.
    ///
    /// The result is a view; for several matrix products a [copy](Self::cut_copied) is faster.
    pub(super) fn cut(&self, tensor: &Tensor<Infer>, group: i32) -> Result<Tensor<Infer>> {
        let Geometry { batch, time, key_heads, .. } = self.geometry;
        let width = tensor.size() as i32 / (batch * time * key_heads * group);
        let tensor = tensor.cast(Dtype::F32)?;
        let missing = self.count * self.length - time;
        let whole = if missing == 0 { tensor } else { tensor.pad(1, 0, missing)? };
        whole.reshape(&[batch, self.count, self.length, key_heads, group, width])?.transpose(&[1, 0, 3, 4, 2, 5])
    }

    /// Cuts as [`cut`](Self::cut) does, into contiguous chunks.
    pub(super) fn cut_copied(&self, tensor: &Tensor<Infer>, group: i32) -> Result<Tensor<Infer>> {
        let view = self.cut(tensor, group)?;
        let shape = view.shape();
        // Joining the axes of heads and tokens copies, unless they lie in order already.
        view.reshape(&[shape[0], shape[1], -1])?.reshape(shape)
    }

    /// The inverse of [`cut`](Self::cut), to the shape and dtype of `like`.
    pub(super) fn join(&self, chunks: &Tensor<Infer>, like: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        let mut shape = like.shape().to_vec();
        shape[1] = self.count * self.length;
        let whole = chunks.transpose(&[1, 0, 4, 2, 3, 5])?.reshape(&shape)?;
        whole.slice(1, 0, self.geometry.time)?.cast(like.dtype())
    }

    /// States `[.., B, Hv, Dv, Dk]` with their value heads in groups: `[n, B, Hk, group, Dv, Dk]`.
    pub(super) fn state_of_groups(&self, states: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        let Geometry { batch, key_heads, key_dim, value_dim, .. } = self.geometry;
        states.reshape(&[-1, batch, key_heads, self.geometry.group(), value_dim, key_dim])
    }

    /// The inverse of [`state_of_groups`](Self::state_of_groups): `[n, B, Hv, Dv, Dk]`.
    pub(super) fn state_of_heads(&self, states: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        let Geometry { batch, value_heads, key_dim, value_dim, .. } = self.geometry;
        states.reshape(&[-1, batch, value_heads, value_dim, key_dim])
    }
}
