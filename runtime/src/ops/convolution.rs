//! Convolution along one axis.

use crate::error::{Context as _, Result};
use crate::mode::Graph;
use crate::tensor::{Origin, Tensor};

use super::{require_dtype, shape_error};

impl<M: Graph> Tensor<M> {
    /// One filter per channel: `[B, T, C]` with `[C, 1, K]` gives `[B, T - K + 1, C]`,
    /// `out[b, t, c] = sum_j x[b, t + j, c] weight[c, 0, j]`.
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit.
    pub fn depthwise_conv1d(&self, weight: &Tensor<M>) -> Result<Tensor<M>> {
        let operation = "depthwise_conv1d";
        require_dtype(operation, weight.dtype(), self.dtype())?;
        let (x, w) = (self.shape(), weight.shape());
        if x.len() != 3 || w.len() != 3 || w[1] != 1 || w[0] != x[2] || w[2] > x[1] {
            return Err(shape_error(operation, (x, w), "[B, T, C] and [C, 1, K] with K <= T"));
        }
        let channels = x[2];
        let origin = Origin::join(operation, [self.origin(), weight.origin()])?;
        // MLX keeps the channel of a filter last: [C, K, 1].
        let filters = weight.array().swap_axes(1, 2).during(operation)?;
        let array = mlx_rs::ops::conv1d(self.array(), filters, 1, 0, 1, channels).during(operation)?;
        Ok(Tensor::from_parts(array, origin))
    }
}
