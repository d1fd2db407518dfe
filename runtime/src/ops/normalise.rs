//! Softmax and root-mean-square normalisation.

use crate::error::{Context as _, Result};
use crate::mode::Graph;
use crate::tensor::{Origin, Tensor};

use super::{require_dtype, require_number, shape_error};

impl<M: Graph> Tensor<M> {
    /// `e^x / sum(e^x)` along the last axis, accumulated in float32.
    ///
    /// # Errors
    /// [`Error::Mlx`](crate::Error::Mlx) if MLX refuses.
    pub fn softmax(&self) -> Result<Tensor<M>> {
        self.unary("softmax", |x| mlx_rs::ops::softmax_axis(x, -1, true))
    }

    /// `weight * x / sqrt(mean(x^2) + epsilon)` along the last axis, accumulated in float32.
    ///
    /// # Errors
    /// A weight that is not as long as the last axis, or of another dtype; an epsilon that is negative or not finite.
    pub fn rms_norm(&self, weight: &Tensor<M>, epsilon: f32) -> Result<Tensor<M>> {
        let operation = "rms_norm";
        require_number(operation, "an epsilon", epsilon, false)?;
        require_dtype(operation, weight.dtype(), self.dtype())?;
        if self.rank() == 0 || weight.shape() != [self.dimension(-1)] {
            return Err(shape_error(operation, (self.shape(), weight.shape()), "[.., n] and a weight [n]"));
        }
        let origin = Origin::join(operation, [self.origin(), weight.origin()])?;
        let array = mlx_rs::fast::rms_norm(self.array(), Some(weight.array()), epsilon).during(operation)?;
        Ok(Tensor::from_parts(array, origin))
    }

    /// `x / sqrt(mean(x^2) + epsilon)` along the last axis, accumulated in float32.
    ///
    /// # Errors
    /// An epsilon that is negative or not finite; [`Error::Mlx`](crate::Error::Mlx) if MLX refuses.
    pub fn rms_normalise(&self, epsilon: f32) -> Result<Tensor<M>> {
        require_number("rms_normalise", "an epsilon", epsilon, false)?;
        self.unary("rms_normalise", |x| mlx_rs::fast::rms_norm(x, None, epsilon))
    }
}
