//! The order of evaluation, where memory depends on it.

use mlx_rs::Array;

use crate::error::Result;
use crate::ffi;
use crate::mode::Infer;
use crate::tensor::Tensor;

impl Tensor<Infer> {
    /// The same value, computed only after `others` are. For loops over chunks whose intermediate results must not
    /// all live at once; MLX orders lazily evaluated chunks as it likes.
    ///
    /// # Errors
    /// [`Error::Mlx`](crate::Error::Mlx) if MLX refuses.
    pub fn after(&self, others: &[&Tensor<Infer>]) -> Result<Tensor<Infer>> {
        let others: Vec<&Array> = others.iter().map(|other| other.array()).collect();
        let mut ordered = ffi::depends("after", &[self.array()], &others)?;
        Ok(Tensor::from_parts(ordered.swap_remove(0), self.origin()))
    }
}
