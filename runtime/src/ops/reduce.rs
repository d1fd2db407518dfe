//! Sums and other reductions over axes.

use crate::constant::Indices;
use crate::cut::{self, CutKind};
use crate::error::{Context as _, Result};
use crate::mode::Graph;
use crate::tensor::Tensor;

use super::shape_error;

/// Whether reduced axes stay, with length 1.
const KEEP: bool = true;

impl<M: Graph> Tensor<M> {
    /// The sum over `axes`, which disappear.
    ///
    /// # Errors
    /// An axis that is not there.
    pub fn sum(&self, axes: &[i32]) -> Result<Tensor<M>> {
        self.unary("sum", |x| x.sum_axes(axes, !KEEP))
    }

    /// The sum over `axes`, which stay with length 1.
    ///
    /// # Errors
    /// An axis that is not there.
    pub fn sum_keep(&self, axes: &[i32]) -> Result<Tensor<M>> {
        self.unary("sum_keep", |x| x.sum_axes(axes, KEEP))
    }

    /// The sum of all elements, a scalar.
    ///
    /// # Errors
    /// [`Error::Mlx`](crate::Error::Mlx) if MLX refuses.
    pub fn sum_all(&self) -> Result<Tensor<M>> {
        self.unary("sum_all", |x| x.sum(!KEEP))
    }

    /// The mean over `axes`, which stay with length 1.
    ///
    /// # Errors
    /// An axis that is not there, or has no elements.
    pub fn mean_keep(&self, axes: &[i32]) -> Result<Tensor<M>> {
        for axis in axes {
            if self.shape()[self.axis("mean_keep", *axis)?] == 0 {
                return Err(shape_error(
                    "mean_keep",
                    self.shape(),
                    format!("elements along axis {axis}: of none there is no mean"),
                ));
            }
        }
        self.unary("mean_keep", |x| x.mean_axes(axes, KEEP))
    }

    /// The largest element along `axes`, which stay with length 1; among ties the gradient is shared.
    ///
    /// # Errors
    /// An axis that is not there.
    pub fn max_keep(&self, axes: &[i32]) -> Result<Tensor<M>> {
        self.unary("max_keep", |x| x.max_axes(axes, KEEP))
    }

    /// `log(sum(e^x))` along one axis, which stays with length 1.
    ///
    /// # Errors
    /// An axis that is not there.
    pub fn logsumexp_keep(&self, axis: i32) -> Result<Tensor<M>> {
        self.unary("logsumexp_keep", |x| x.logsumexp_axis(axis, KEEP))
    }

    /// Running sums along one axis, each including its own element.
    ///
    /// # Errors
    /// An axis that is not there.
    pub fn cumsum(&self, axis: i32) -> Result<Tensor<M>> {
        self.unary("cumsum", |x| mlx_rs::ops::cumsum(x, axis, false, true))
    }

    /// Running sums along one axis from its end, each including its own element.
    ///
    /// # Errors
    /// An axis that is not there.
    pub fn cumsum_reverse(&self, axis: i32) -> Result<Tensor<M>> {
        self.unary("cumsum_reverse", |x| mlx_rs::ops::cumsum(x, axis, true, true))
    }

    /// Returns the index of the largest element along `axis`; indices have no gradient.
    ///
    /// # Errors
    /// An axis that is not there.
    #[track_caller]
    pub fn argmax(&self, axis: i32) -> Result<Indices> {
        cut::note(CutKind::Discrete, "`argmax`: indices have no gradient", self);
        let length = self.dimension_checked("argmax", axis)?;
        let array = mlx_rs::ops::indexing::argmax_axis(self.array(), axis, !KEEP).during("argmax")?;
        Ok(Indices::from_array(mlx_rs::stop_gradient(array).during("argmax")?, length))
    }

    pub(super) fn dimension_checked(&self, operation: &'static str, axis: i32) -> Result<i32> {
        Ok(self.shape()[self.axis(operation, axis)?])
    }
}
