//! Choices among computed values, on the device. They are indices, so no gradient flows through them.

use mlx_rs::Array;
use mlx_rs::Dtype as MlxDtype;
use mlx_rs::ops::argsort_axis;

use crate::constant::Indices;
use crate::cut::{self, CutKind};
use crate::error::{Context as _, Result};
use crate::ffi;
use crate::kept;
use crate::mode::Graph;
use crate::tensor::Tensor;

use super::shape_error;

impl<M: Graph> Tensor<M> {
    /// Returns the indices of the `count` largest elements of each row along the last axis, the largest first, and of
    /// equal elements the first one: `[.., n]` to `[.., count]`.
    ///
    /// A block that [`train_stack`](crate::train_stack) computes again does not choose again: rounding could turn a near
    /// tie round, and the gradient would be that of another choice.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) unless `count` is between 1 and the length of the axis.
    #[track_caller]
    pub fn top_k(&self, count: i32) -> Result<Indices> {
        let operation = "top_k";
        cut::note(CutKind::Discrete, "`top_k`: indices have no gradient", self);
        let length = self.dimension_checked(operation, -1)?;
        if !(1..=length).contains(&count) {
            return Err(shape_error(operation, format_args!("{count} of {length}"), "at least 1 and at most all"));
        }
        let chosen = kept::choice(operation, || {
            let largest_first = self.array().negative().and_then(|x| argsort_axis(x, -1)).during(operation)?;
            let mut end = self.shape().to_vec();
            if let Some(last) = end.last_mut() {
                *last = count;
            }
            let first = ffi::slice(operation, &largest_first, &vec![0; end.len()], &end)?;
            // The indices are copied, because a slice would keep the whole order in memory.
            let numbers = first.as_dtype(MlxDtype::Int32).during(operation)?;
            mlx_rs::stop_gradient(numbers).during(operation)
        })?;
        Ok(Indices::from_array(chosen, length))
    }
}

impl Indices {
    /// The order that sorts all elements: where the smallest is in row-major order, then the next, and of equal ones the
    /// first. The result has one axis. A block that is computed again does not sort again.
    ///
    /// # Errors
    /// [`Error::Mlx`](crate::Error::Mlx) if MLX refuses.
    pub fn sort_order(&self) -> Result<Indices> {
        let operation = "sort_order";
        let length = self.size();
        let order = kept::choice(operation, || {
            let order = self.array().reshape(&[length]).and_then(|flat| argsort_axis(flat, 0));
            order.and_then(|order| order.as_dtype(MlxDtype::Int32)).during(operation)
        })?;
        Ok(Indices::from_array(order, length))
    }

    /// The elements that `places` names in row-major order, in the shape of `places`.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`](crate::Error::IndexOutOfRange) if there is no such place.
    pub fn take(&self, places: &Indices) -> Result<Indices> {
        let operation = "Indices::take";
        places.check(operation, self.size())?;
        let taken = self.array().reshape(&[self.size()]).and_then(|flat| flat.take_axis(places.array(), 0));
        Ok(self.stored_as(taken.during(operation)?))
    }

    /// The rows that `rows` `[n]` names: `[rows, ..]` to `[n, ..]`.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`](crate::Error::IndexOutOfRange) if there is no such row.
    pub fn take_rows(&self, rows: &Indices) -> Result<Indices> {
        let operation = "Indices::take_rows";
        rows.check(operation, self.shape().first().copied().unwrap_or(1))?;
        Ok(self.stored_as(self.array().take_axis(rows.array(), 0).during(operation)?))
    }

    /// Each element divided by `divisor`, rounded down.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) unless the divisor is positive.
    pub fn divide(&self, divisor: i32) -> Result<Indices> {
        let operation = "Indices::divide";
        if divisor < 1 {
            return Err(shape_error(operation, divisor, "a positive divisor"));
        }
        let quotient = Array::from_int(divisor).as_dtype(self.array().dtype());
        let quotient = quotient.and_then(|divisor| self.array().floor_divide(divisor)).during(operation)?;
        Ok(self.divided(quotient, divisor))
    }

    fn size(&self) -> i32 {
        self.shape().iter().product()
    }
}
