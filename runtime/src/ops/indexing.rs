//! Gathering by indices. Indices carry their range, so that none reads out of bounds.

use crate::constant::Indices;
use crate::error::{Context as _, Result};
use crate::mode::Graph;
use crate::tensor::Tensor;

use super::shape_error;

impl<M: Graph> Tensor<M> {
    /// Rows of a table: `[rows, ..]` by indices `[..shape]` gives `[..shape, ..]`.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`](crate::Error::IndexOutOfRange) if an index is not a row.
    pub fn take_rows(&self, rows: &Indices) -> Result<Tensor<M>> {
        self.take(rows, 0)
    }

    /// Elements along `axis`, whose place the axes of `indices` take.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`](crate::Error::IndexOutOfRange) if an index does not lie in the axis.
    pub fn take(&self, indices: &Indices, axis: i32) -> Result<Tensor<M>> {
        indices.check("take", self.dimension_checked("take", axis)?)?;
        self.unary("take", |x| x.take_axis(indices.array(), axis))
    }

    /// Returns, for each place of `indices`, the element along `axis` that it names: `out[i][j] = x[i][indices[i][j]]`.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`](crate::Error::IndexOutOfRange) if an index does not lie in the axis, or a rank that
    /// differs.
    pub fn take_along_axis(&self, indices: &Indices, axis: i32) -> Result<Tensor<M>> {
        let operation = "take_along_axis";
        indices.check(operation, self.dimension_checked(operation, axis)?)?;
        if indices.shape().len() != self.rank() {
            return Err(shape_error(operation, (self.shape(), indices.shape()), "the same number of axes"));
        }
        let array = mlx_rs::ops::indexing::take_along_axis(self.array(), indices.array(), axis).during(operation)?;
        Ok(self.derived(array))
    }
}
