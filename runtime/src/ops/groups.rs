//! Rows in groups, one group after the other: each group is multiplied by a matrix of its own.

use mlx_rs::ops::{self, arange};
use mlx_rs::{Array, Dtype as MlxDtype};

use crate::backend::Backend;
use crate::constant::Indices;
use crate::dtype::Dtype;
use crate::error::{Context as _, Result};
use crate::kept;
use crate::mode::Graph;
use crate::tensor::{Origin, Tensor};

use super::shape_error;

impl Indices {
    /// Returns how often each of `0..length` occurs among these indices, as int32 `[length]`. Nothing waits for the
    /// device, and a block that is computed again does not count again.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`](crate::Error::IndexOutOfRange) if one of them is not below `length`.
    pub fn occurrences(&self, length: i32) -> Result<Indices> {
        let operation = "occurrences";
        self.check(operation, length)?;
        let size = self.array().size() as i32;
        let equal = || {
            let column = self.array().reshape(&[size, 1])?.as_dtype(MlxDtype::Int32)?;
            // MLX 0.32.2 has no binary search on CUDA: a program that calls it does not even link.
            column.eq(&arange::<_, i32>(None, length, None)?)?.as_dtype(MlxDtype::Int32)?.sum_axes(&[0], false)
        };
        let counts = kept::choice(operation, || equal().during(operation))?;
        Ok(Indices::from_array(counts, size.saturating_add(1)))
    }

    /// Returns the group of each of `rows` rows, and whether the row has one, from the numbers of rows of the groups,
    /// in order. Rows behind the last group have none, and get the number of the last group.
    fn owners(&self, rows: i32) -> mlx_rs::error::Result<(Array, Array)> {
        let groups = self.array().size() as i32;
        // The sums have 64 bits, because counts that a device computed may be anything.
        let counts = ops::clip(self.array().as_dtype(MlxDtype::Int64)?, (Array::from_int(0), Array::from_int(rows)))?;
        let ends = ops::cumsum(counts, 0, false, true)?.reshape(&[1, groups])?;
        let numbers = arange::<_, i32>(None, rows, None)?.reshape(&[rows, 1])?.as_dtype(MlxDtype::Int64)?;
        let owner = ends.le(&numbers)?.as_dtype(MlxDtype::Int32)?.sum_axes(&[1], false)?;
        let owned = owner.lt(Array::from_int(groups))?.reshape(&[rows, 1])?;
        let last = Array::from_int(groups - 1);
        Ok((ops::minimum(owner, last)?.as_dtype(MlxDtype::Uint32)?, owned))
    }
}

impl<M: Graph> Tensor<M> {
    /// Rows times the matrix of their group: `[R, K]` by `[E, K, N]` gives `[R, N]`. The first `counts[0]` rows are the first
    /// group, the next `counts[1]` the second: int32 `[E]`, which may be computed on the device. Rows that the counts do not
    /// reach give 0.
    ///
    /// On a CPU, MLX multiplies one row at a time and needs float32, to which other dtypes are cast here.
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit.
    pub fn grouped_matmul(&self, matrices: &Tensor<M>, counts: &Indices) -> Result<Tensor<M>> {
        let operation = "grouped_matmul";
        super::require_dtype(operation, matrices.dtype(), self.dtype())?;
        let (rows, stack) = (self.shape(), matrices.shape());
        let fits = rows.len() == 2 && stack.len() == 3 && rows[1] == stack[1] && counts.shape() == &stack[..1];
        if !fits || rows.contains(&0) || stack.contains(&0) {
            let expected = "[R, K], [E, K, N] and counts [E], of which nothing is 0";
            return Err(shape_error(operation, (rows, stack, counts.shape()), expected));
        }
        let origin = Origin::join(operation, [self.origin(), matrices.origin()])?;
        let (count, width) = (rows[0], stack[2]);
        let on_cpu = matches!(crate::backend()?, Backend::Cpu | Backend::Emulated);
        let dtype = if on_cpu { Dtype::F32 } else { self.dtype() }.to_mlx();
        let product = || {
            let (owner, owned) = counts.owners(count)?;
            let left = self.array().as_dtype(dtype)?.reshape(&[count, 1, rows[1]])?;
            // Each row names itself, because without that the gradient of the matrices is NaN.
            let own = arange::<_, u32>(None, count as u32, None)?;
            let y = ops::gather_mm(left, matrices.array().as_dtype(dtype)?, &own, &owner, true)?;
            let y = y.reshape(&[count, width])?.as_dtype(self.array().dtype())?;
            ops::select(&owned, &y, &Array::from_f32(0.0).as_dtype(y.dtype())?)
        };
        Ok(Tensor::from_parts(product().during(operation)?, origin))
    }
}
