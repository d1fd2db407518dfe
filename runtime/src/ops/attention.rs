//! Scaled dot-product attention, by MLX's own operation.

use mlx_rs::fast::ScaledDotProductAttentionMask;

use crate::constant::Mask;
use crate::error::{Context as _, Result};
use crate::mode::Graph;
use crate::tensor::{Origin, Tensor};

use super::{require_dtype, require_number, shape_error};

/// The keys that a query sees.
#[derive(Debug, Clone, Copy)]
pub enum Visible<'a> {
    /// All keys.
    All,
    /// The keys at the query's own position and before it; the last query is at the position of the last key.
    Causal,
    /// The keys at which the mask is true; it broadcasts to `[batch, heads, queries, keys]`.
    Where(&'a Mask),
}

impl<M: Graph> Tensor<M> {
    /// `softmax(scale * q k^T) v` with queries `[B, H, T, D]`, keys `[B, G, S, D]`, values `[B, G, S, E]` and G a
    /// divisor of H: `[B, H, T, E]`.
    ///
    /// In training MLX holds `[B, H, T, S]` here: for long rows compose it of blocks.
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit; a scale that is not finite.
    pub fn attention(
        &self,
        keys: &Tensor<M>,
        values: &Tensor<M>,
        scale: f32,
        visible: Visible<'_>,
    ) -> Result<Tensor<M>> {
        let operation = "attention";
        require_number(operation, "a scale", scale, true)?;
        require_dtype(operation, keys.dtype(), self.dtype())?;
        require_dtype(operation, values.dtype(), self.dtype())?;
        let (q, k, v) = (self.shape(), keys.shape(), values.shape());
        let fits = q.len() == 4
            && k.len() == 4
            && v.len() == 4
            && (q[0], q[3]) == (k[0], k[3])
            && k[..3] == v[..3]
            && k[1] > 0
            && q[1] % k[1] == 0;
        if !fits {
            return Err(shape_error(operation, (q, k, v), "[B, H, T, D], [B, G, S, D], [B, G, S, E] with H % G = 0"));
        }
        let origin = Origin::join(operation, [self.origin(), keys.origin(), values.origin()])?;
        let mask = match visible {
            Visible::All => None,
            Visible::Causal => Some(ScaledDotProductAttentionMask::Causal),
            Visible::Where(mask) => Some(ScaledDotProductAttentionMask::Array(mask.array())),
        };
        let array =
            mlx_rs::fast::scaled_dot_product_attention(self.array(), keys.array(), values.array(), scale, mask, None)
                .during(operation)?;
        Ok(Tensor::from_parts(array, origin))
    }
}
