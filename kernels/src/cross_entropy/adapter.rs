//! A low-rank adapter beside the head.

use cotangent::host::leaf;
use cotangent::{Dtype, Infer, Result, Tensor};

/// `scale (x A) B` in float32: `A` `[D, R]`, `B` `[R, V]`.
pub(super) struct Adapter {
    a: Tensor<Infer>,
    b: Tensor<Infer>,
    scale: f32,
}

impl Adapter {
    /// Returns the adapter of the two matrices, or `None` if there are none.
    pub(super) fn new(matrices: Option<[&Tensor<Infer>; 2]>, scale: Option<f32>) -> Result<Option<Self>> {
        match (matrices, scale) {
            (Some([a, b]), Some(scale)) => {
                Ok(Some(Adapter { a: leaf(a)?.cast(Dtype::F32)?, b: leaf(b)?.cast(Dtype::F32)?, scale }))
            }
            _ => Ok(None),
        }
    }

    /// `logits + scale (rows A) B`.
    pub(super) fn add_logits(&self, logits: &Tensor<Infer>, rows: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        logits.add_product(&rows.matmul(&self.a)?, &self.b, self.scale)
    }

    /// `gradient + scale (slopes B^T) A^T`.
    pub(super) fn add_hidden_gradient(
        &self,
        gradient: &Tensor<Infer>,
        slopes: &Tensor<Infer>,
    ) -> Result<Tensor<Infer>> {
        gradient.add_product(&self.narrow(slopes)?, &self.a.swap_axes(0, 1)?, self.scale)
    }

    /// `scale rows^T (slopes B^T)` and `scale (rows A)^T slopes`.
    pub(super) fn gradients(&self, slopes: &Tensor<Infer>, rows: &Tensor<Infer>) -> Result<[Tensor<Infer>; 2]> {
        let d_a = rows.swap_axes(0, 1)?.matmul(&self.narrow(slopes)?)?.multiply(self.scale)?;
        let d_b = rows.matmul(&self.a)?.multiply(self.scale)?.swap_axes(0, 1)?.matmul(slopes)?;
        Ok([d_a, d_b])
    }

    /// `slopes B^T`: `[rows, R]`.
    fn narrow(&self, slopes: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        slopes.matmul(&self.b.swap_axes(0, 1)?)
    }
}
