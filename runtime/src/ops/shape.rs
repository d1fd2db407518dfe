//! Operations that move elements without changing them.

use mlx_rs::Array;

use crate::error::{Context as _, Error, Result};
use crate::ffi;
use crate::mode::Graph;
use crate::tensor::{Origin, Tensor};

use super::{require_dtype, shape_error};

impl<M: Graph> Tensor<M> {
    /// Returns the same elements in another shape; one length may be -1.
    ///
    /// # Errors
    /// A different number of elements.
    pub fn reshape(&self, shape: &[i32]) -> Result<Tensor<M>> {
        self.unary("reshape", |x| x.reshape(shape))
    }

    /// Axis `i` of the result is axis `axes[i]`.
    ///
    /// # Errors
    /// `axes` that are no permutation.
    pub fn transpose(&self, axes: &[i32]) -> Result<Tensor<M>> {
        self.unary("transpose", |x| x.transpose_axes(axes))
    }

    /// Two axes exchanged.
    ///
    /// # Errors
    /// An axis that is not there.
    pub fn swap_axes(&self, left: i32, right: i32) -> Result<Tensor<M>> {
        self.unary("swap_axes", |x| x.swap_axes(left, right))
    }

    /// A new axis of length 1 before `axis`.
    ///
    /// # Errors
    /// An axis further than the last.
    pub fn expand_dims(&self, axis: i32) -> Result<Tensor<M>> {
        self.unary("expand_dims", |x| x.expand_dims(axis))
    }

    /// Axis `axis`, of length 1, removed.
    ///
    /// # Errors
    /// An axis that is not there or longer.
    pub fn squeeze(&self, axis: i32) -> Result<Tensor<M>> {
        self.unary("squeeze", |x| x.squeeze_axes(&[axis]))
    }

    /// Axes of length 1 repeated to `shape`, without copying.
    ///
    /// # Errors
    /// A shape this one does not broadcast to.
    pub fn broadcast_to(&self, shape: &[i32]) -> Result<Tensor<M>> {
        self.unary("broadcast_to", |x| mlx_rs::ops::broadcast_to(x, shape))
    }

    /// Every element along `axis` `count` times in a row.
    ///
    /// # Errors
    /// An axis that is not there.
    pub fn repeat(&self, count: i32, axis: i32) -> Result<Tensor<M>> {
        let operation = "repeat";
        let axis = self.axis(operation, axis)?;
        let mut widened = self.shape().to_vec();
        let mut repeated = widened.clone();
        widened.insert(axis + 1, count);
        repeated[axis] *= count;
        self.unary(operation, |x| {
            mlx_rs::ops::broadcast_to(x.expand_dims(axis as i32 + 1)?, &widened)?.reshape(&repeated)
        })
    }

    /// Elements `start..end` along `axis`.
    ///
    /// # Errors
    /// A range that does not lie in the axis.
    pub fn slice(&self, axis: i32, start: i32, end: i32) -> Result<Tensor<M>> {
        let operation = "slice";
        let axis = self.axis(operation, axis)?;
        let length = self.shape()[axis];
        if start < 0 || end < start || end > length {
            return Err(shape_error(operation, format_args!("{start}..{end}"), format!("a range in 0..{length}")));
        }
        let mut starts = vec![0; self.rank()];
        let mut ends = self.shape().to_vec();
        starts[axis] = start;
        ends[axis] = end;
        Ok(self.derived(ffi::slice(operation, self.array(), &starts, &ends)?))
    }

    /// Pieces of the given lengths along `axis`, which they must fill.
    ///
    /// # Errors
    /// Lengths that do not add up to the axis, or are negative.
    pub fn split(&self, lengths: &[i32], axis: i32) -> Result<Vec<Tensor<M>>> {
        let operation = "split";
        let length = self.dimension_checked(operation, axis)?;
        if lengths.iter().any(|length| *length < 0) || lengths.iter().sum::<i32>() != length {
            return Err(shape_error(operation, lengths, format!("lengths that add up to {length}, none negative")));
        }
        if lengths.len() < 2 {
            return Ok(vec![self.clone(); lengths.len()]);
        }
        let ends: Vec<i32> = lengths
            .iter()
            .scan(0, |end, length| {
                *end += length;
                Some(*end)
            })
            .collect();
        // The gradient of this one operation is one concatenation; that of slices would be a sum of padded arrays.
        let pieces = mlx_rs::ops::split_at_indices(self.array(), &ends[..ends.len() - 1], axis).during(operation)?;
        Ok(pieces.into_iter().map(|piece| self.derived(piece)).collect())
    }

    /// `before` and `after` zeros at the ends of `axis`.
    ///
    /// # Errors
    /// An axis that is not there, or negative counts.
    pub fn pad(&self, axis: i32, before: i32, after: i32) -> Result<Tensor<M>> {
        let operation = "pad";
        let axis = self.axis(operation, axis)?;
        if before < 0 || after < 0 {
            return Err(shape_error(operation, (before, after), "counts that are not negative"));
        }
        let mut widths = vec![(0, 0); self.rank()];
        widths[axis] = (before, after);
        self.unary(operation, |x| mlx_rs::ops::pad(x, &widths[..], None, None))
    }

    /// Tensors joined along an axis they have.
    ///
    /// # Errors
    /// No tensors, other axes that differ, dtypes that differ, or different training graphs.
    pub fn concatenate(tensors: &[&Tensor<M>], axis: i32) -> Result<Tensor<M>> {
        join("concatenate", tensors, |arrays| mlx_rs::ops::concatenate(arrays, axis))
    }

    /// Tensors of one shape joined along a new axis.
    ///
    /// # Errors
    /// No tensors, shapes or dtypes that differ, or different training graphs.
    pub fn stack(tensors: &[&Tensor<M>], axis: i32) -> Result<Tensor<M>> {
        join("stack", tensors, |arrays| mlx_rs::ops::stack(arrays, axis))
    }
}

fn join<M: Graph>(
    operation: &'static str,
    tensors: &[&Tensor<M>],
    function: impl FnOnce(&[&Array]) -> mlx_rs::error::Result<Array>,
) -> Result<Tensor<M>> {
    let first = tensors.first().ok_or_else(|| Error::Shape {
        operation,
        found: "no tensors".into(),
        expected: "at least one".into(),
    })?;
    for tensor in tensors {
        require_dtype(operation, tensor.dtype(), first.dtype())?;
    }
    let origin = Origin::join(operation, tensors.iter().map(|tensor| tensor.origin()))?;
    let arrays: Vec<&Array> = tensors.iter().map(|tensor| tensor.array()).collect();
    Ok(Tensor::from_parts(function(&arrays).during(operation)?, origin))
}
